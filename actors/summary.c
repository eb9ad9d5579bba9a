#define LOG_MODULE "pg_doorman::config"
#include "actors/daemon.h"

#include "runtime/log.h"

#include <inttypes.h>
#include <stdio.h>

/* --- the configuration --- */

static const char *yes(bool value)
{
    return value ? "on" : "off";
}

static const char *or_none(const char *text)
{
    return text == NULL ? "none" : text;
}

static void log_duration(const char *name, uint64_t ms)
{
    char text[32];

    log_info("%s: %s", name, format_duration(text, sizeof text, ms * 1000));
}

static void log_general(const struct general_config *g)
{
    log_info("Worker threads: %" PRIu64, g->worker_threads);
    log_duration("Connect timeout", g->connect_timeout);
    log_duration("Idle timeout", g->idle_timeout);
    log_info("Log client connections: %s", yes(g->log_client_connections));
    log_info("Log client disconnections: %s", yes(g->log_client_disconnections));
    log_duration("Shutdown timeout", g->shutdown_timeout);
    log_info("Messages are streamed from: %" PRIu64 " bytes", g->message_size_to_be_stream);
    log_info("Memory for client messages: %" PRIu64 " bytes", g->max_memory_usage);
    log_duration("Server lifetime", g->server_lifetime);
    log_info("Backlog: %" PRIu64, g->backlog > 0 ? g->backlog : g->max_connections);
    log_info("Max connections: %" PRIu64, g->max_connections);
    log_info("Server round robin: %s", yes(g->server_round_robin));
    log_info("Access rules: %s", g->pg_hba != NULL  ? "pg_hba"
                                 : g->hba.count > 0 ? "hba"
                                                    : "none, everybody may try");
    if (g->tls_certificate != NULL)
        log_info("TLS certificate: %s, private key: %s", g->tls_certificate,
                 or_none(g->tls_private_key));
    else
        log_info("TLS for clients is off");
    log_info("TLS to servers: %s", or_none(g->server_tls_mode));
}

static const char *mode_name(enum pool_mode mode)
{
    return mode == POOL_MODE_SESSION ? "session" : "transaction";
}

static void log_pool(const struct pool_config *pool)
{
    log_info("[pool: %s] mode: %s, server: %s:%" PRIu64 ", cleanup: %s", pool->name,
             or_none(pool->pool_mode), or_none(pool->server_host), pool->server_port,
             yes(pool->cleanup_server_connections));
    for (size_t i = 0; i < pool->user_count; i++) {
        const struct user_config *user = &pool->users[i];
        const struct effective *e = &user->effective;

        log_info("[pool: %s][user: %s] pool size: %u, mode: %s, idle timeout: %" PRIu64
                 "ms, server lifetime: %" PRIu64 "ms",
                 pool->name, user->username, e->pool_size, mode_name(e->mode), e->idle_timeout_ms,
                 e->server_lifetime_ms);
    }
}

void summary_log(const struct config *config)
{
    log_general(&config->general);
    for (size_t i = 0; i < config->pool_count; i++)
        log_pool(&config->pools[i]);
}

void warnings_log(const struct config *config)
{
    for (size_t i = 0; i < config->warnings.count; i++)
        log_warn("%s", config->warnings.items[i]);
    for (size_t i = 0; i < config->remarks.count; i++)
        log_info("%s", config->remarks.items[i]);
}
