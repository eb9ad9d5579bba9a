/* warn.c: what is accepted but probably not meant. */
#include "auth/secret.h"
#include "config/tls_files.h"
#include "config/validate.h"
#include "config/value.h"

#include <inttypes.h>
#include <netdb.h>

#define WARN(v, node, ...) \
    note((v)->warnings, "%s%s", node_place(v, node), arena_format((v)->arena, __VA_ARGS__))

static void warn_general_zeros(struct validator *v)
{
    static const char *const names[] = {"connect_timeout",   "query_wait_timeout",
                                        "fallback_cooldown", "patroni_api_timeout",
                                        "fallback_lifetime", "fallback_connect_timeout"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct setting *s = setting_find(SECTION_GENERAL, names[i]);
        if (*(uint64_t *)setting_at(s, &v->config->general) == 0)
            WARN(v, node_of(v, "general", names[i], NULL),
                 "general.%s is 0: nothing can be done in no time", names[i]);
    }
}

static void warn_host(struct validator *v)
{
    const char *host = v->config->general.host;
    struct addrinfo *found = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

    if (address_valid(host))
        return;
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error != 0)
        WARN(v, node_of(v, "general", "host", NULL), "general.host '%s' cannot be resolved: %s",
             host, gai_strerror(error));
    else
        freeaddrinfo(found);
}

static void warn_listener(struct validator *v)
{
    const struct general_config *g = &v->config->general;

    if (g->tcp_socket_buffer_size > 0 && g->tcp_socket_buffer_size < 65536)
        WARN(v, node_of(v, "general", "tcp_socket_buffer_size", NULL),
             "general.tcp_socket_buffer_size of %" PRIu64
             " bytes is small and will limit throughput; 0 lets the kernel choose",
             g->tcp_socket_buffer_size);
    if (g->unix_socket_dir != NULL && g->hba.count > 0 && g->pg_hba == NULL)
        WARN(v, node_of(v, "general", "hba", NULL),
             "general.hba does not apply to clients of the Unix socket; use pg_hba for them");
    if (g->tls_certificate != NULL && g->tls_mode_value == CLIENT_TLS_DISABLE)
        WARN(v, node_of(v, "general", "tls_mode", NULL),
             "tls_mode is disable: TLS is off and tls_certificate is not used");
    warn_host(v);
}

static void warn_general(struct validator *v)
{
    const struct general_config *g = &v->config->general;

    warn_listener(v);
    if (g->client_anonymous_prepared_cache_size == 0)
        WARN(v, node_of(v, "general", "client_anonymous_prepared_cache_size", NULL),
             "client_anonymous_prepared_cache_size is 0: one client can make the cache of unnamed "
             "statements grow without limit");
    if (g->message_size_to_be_stream > INT32_MAX)
        WARN(v, node_of(v, "general", "message_size_to_be_stream", NULL),
             "general.message_size_to_be_stream is above 2147483647, more than any message has");
    warn_general_zeros(v);
}

static void warn_web(struct validator *v)
{
    const struct web_config *w = &v->config->web;
    const char *password = v->config->general.admin_password;
    struct failure reason = {""};

    if (w->ui && (*password == '\0' || strcmp(password, "admin") == 0))
        WARN(v, node_of(v, "web", "ui", NULL),
             "web.ui = true ignored: admin_password is default/empty. Set another one to open the "
             "web console");
    if (!w->sso_enabled)
        return;
    if (w->sso_public_key_file == NULL || w->sso_audience.count == 0)
        WARN(v, node_of(v, "web", "sso_enabled", NULL),
             "web.sso_enabled ignored: it needs sso_public_key_file and sso_audience");
    else if (public_key_check(w->sso_public_key_file, &reason) != 0)
        WARN(v, node_of(v, "web", "sso_public_key_file", NULL), "web.sso_enabled ignored: %s",
             reason.text);
}

static void warn_coordinator(struct validator *v, const struct pool_config *p)
{
    const struct tree *node = node_of(v, "pools", p->name, "max_db_connections");
    uint64_t cap = p->max_db_connections;

    if (cap == 0 || cap == SETTING_UNSET)
        return;
    if (p->reserve_pool_size > cap)
        WARN(v, node,
             "pools.%s: reserve_pool_size (%" PRIu64 ") is larger than max_db_connections (%" PRIu64
             ")",
             p->name, p->reserve_pool_size, cap);
    for (size_t i = 0; i < p->user_count; i++) {
        const struct user_config *u = &p->users[i];
        if (u->pool_size > cap)
            WARN(v, user_node(v, p, u, "pool_size"),
                 "pools.%s: pool_size (%" PRIu64
                 ") of user '%s' is larger than max_db_connections (%" PRIu64 ")",
                 p->name, u->pool_size, u->username, cap);
        if (p->min_guaranteed_pool_size > u->pool_size)
            WARN(v, user_node(v, p, u, "pool_size"),
                 "pools.%s: min_guaranteed_pool_size (%" PRIu64
                 ") is larger than pool_size (%" PRIu64 ") of user '%s'",
                 p->name, p->min_guaranteed_pool_size, u->pool_size, u->username);
    }
    if (p->idle_timeout != SETTING_UNSET && p->idle_timeout > 0 &&
        p->min_connection_lifetime > p->idle_timeout)
        WARN(v, node,
             "pools.%s: min_connection_lifetime (%" PRIu64
             " ms) is longer than idle_timeout (%" PRIu64 " ms)",
             p->name, p->min_connection_lifetime, p->idle_timeout);
    if (p->reserve_pool_timeout > v->config->general.query_wait_timeout)
        WARN(v, node,
             "pools.%s: reserve_pool_timeout (%" PRIu64
             " ms) is longer than query_wait_timeout (%" PRIu64 " ms)",
             p->name, p->reserve_pool_timeout, v->config->general.query_wait_timeout);
}

static void warn_user(struct validator *v, const struct pool_config *p, const struct user_config *u)
{
    static const char jwt[] = "jwt-priv-key-fpath:";
    struct failure reason = {""};

    if (u->auth_pam_service == NULL && secret_kind(u->password) == SECRET_PLAIN)
        WARN(v, user_node(v, p, u, "password"),
             "pools.%s: the password of user '%s' is stored as plain text; a SCRAM-SHA-256 secret "
             "is recommended",
             p->name, u->username);
    if (u->server_password != NULL && strncmp(u->server_password, jwt, sizeof jwt - 1) == 0 &&
        private_key_check(u->server_password + sizeof jwt - 1, &reason) != 0)
        WARN(v, user_node(v, p, u, "server_password"),
             "pools.%s: tokens for user '%s' cannot be signed: %s", p->name, u->username,
             reason.text);
}

static void warn_pool(struct validator *v, const struct pool_config *p)
{
    const struct tree *node = node_of(v, "pools", p->name, "fallback_cooldown");

    if (strcmp(p->name, "pgdoorman") == 0 || strcmp(p->name, "pgbouncer") == 0)
        WARN(v, node_of(v, "pools", p->name, NULL),
             "pools.%s cannot be reached: the admin database has this name", p->name);
    if (p->fallback_cooldown != SETTING_UNSET && p->fallback_cooldown < 1000)
        WARN(v, node, "pools.%s: fallback_cooldown is below one second", p->name);
    if (p->fallback_lifetime != SETTING_UNSET && p->fallback_cooldown != SETTING_UNSET &&
        p->fallback_lifetime > p->fallback_cooldown)
        WARN(v, node, "pools.%s: fallback_lifetime is longer than fallback_cooldown", p->name);
    warn_coordinator(v, p);
    for (size_t i = 0; i < p->user_count; i++)
        warn_user(v, p, &p->users[i]);
}

void config_warn(struct validator *v)
{
    warn_general(v);
    warn_web(v);
    for (size_t i = 0; i < v->config->pool_count; i++)
        warn_pool(v, &v->config->pools[i]);
}
