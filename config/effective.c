#include "config/effective.h"

#include "config/tls_files.h"
#include "config/validate.h"

enum {
    FALLBACK_COOLDOWN_MS = 30000,
    PATRONI_API_TIMEOUT_MS = 5000,
    FALLBACK_CONNECT_TIMEOUT_MS = 5000,
    EXECUTOR_CONNECT_TIMEOUT_MS = 5000
};

static uint64_t first_set(uint64_t a, uint64_t b)
{
    return a != SETTING_UNSET ? a : b;
}
static const char *first_text(const char *a, const char *b)
{
    return a != NULL ? a : b;
}

struct server_tls server_tls_resolve(const struct general_config *g, const struct pool_config *pool)
{
    static const struct pool_config none;
    const struct pool_config *p = pool != NULL ? pool : &none;
    int mode = server_tls_mode_parse(first_text(p->server_tls_mode, g->server_tls_mode));

    return (struct server_tls){
        .mode = mode < 0 ? SERVER_TLS_DISABLE : (enum server_tls_mode)mode,
        .ca_cert = first_text(p->server_tls_ca_cert, g->server_tls_ca_cert),
        .certificate = first_text(p->server_tls_certificate, g->server_tls_certificate),
        .private_key = first_text(p->server_tls_private_key, g->server_tls_private_key)};
}

struct pair_list pairs_merge(struct arena *arena, const struct pair_list *base,
                             const struct pair_list *over)
{
    struct pair_list merged = {0};
    size_t i = 0;
    size_t j = 0;

    merged.items = arena_alloc(arena, (base->count + over->count + 1) * sizeof *merged.items);
    while (i < base->count || j < over->count) {
        int order = i == base->count   ? 1
                    : j == over->count ? -1
                                       : strcmp(base->items[i].name, over->items[j].name);
        merged.items[merged.count++] = order < 0 ? base->items[i] : over->items[j];
        i += order <= 0;
        j += order >= 0;
    }
    return merged;
}

static void resolve_timeouts(struct effective *e, const struct general_config *g,
                             const struct pool_config *p)
{
    e->connect_timeout_ms = first_set(p->connect_timeout, g->connect_timeout);
    e->query_wait_timeout_ms = g->query_wait_timeout;
    e->idle_timeout_ms = first_set(p->idle_timeout, g->idle_timeout);
    e->server_lifetime_ms = first_set(p->server_lifetime, g->server_lifetime);
    e->server_idle_check_timeout_ms = g->server_idle_check_timeout;
}

static void resolve_growth(struct effective *e, const struct general_config *g,
                           const struct pool_config *p)
{
    e->max_concurrent_creates = (uint32_t)MIN(g->max_concurrent_creates, (uint64_t)UINT32_MAX);
    e->scaling_warm_pool_ratio = (uint32_t)first_set(p->scaling_warm_pool_ratio,
                                                     g->scaling_warm_pool_ratio);
    e->scaling_fast_retries = (uint32_t)first_set(p->scaling_fast_retries, g->scaling_fast_retries);
    e->scaling_max_parallel_creates = (uint32_t)g->scaling_max_parallel_creates;
    e->max_waiters = (uint32_t)first_set(p->max_waiters, g->max_waiters);
    e->shed_expected_timeouts = g->shed_expected_timeouts;
    e->server_round_robin = g->server_round_robin;
    e->sync_server_parameters = g->sync_server_parameters;
    e->cleanup_server_connections = p->cleanup_server_connections;
    e->cleanup_verify = p->cleanup_server_connections && strcmp(p->cleanup_check, "verify") == 0;
    if (p->server_reset_query != NULL && p->server_reset_query[0] != '\0')
        e->server_reset_query = p->server_reset_query;
    e->log_client_parameter_status_changes = p->log_client_parameter_status_changes;
}

static void resolve_caches(struct effective *e, const struct general_config *g,
                           const struct pool_config *p)
{
    uint64_t size = first_set(p->prepared_statements_cache_size, g->prepared_statements_cache_size);

    e->client_anonymous_cache_size = first_set(g->client_anonymous_prepared_cache_size, size);
    if (!g->prepared_statements)
        return;
    /* A pool's 0 keeps renaming alive with a cache of one, so that clients which prepare still
     * work; only the caches of the backends are off. */
    e->prepared_cache_size = MAX(size, (uint64_t)1);
    e->server_prepared_cache_size =
        size == 0 ? 0
                  : first_set(p->server_prepared_statements_cache_size,
                              first_set(g->server_prepared_statements_cache_size, size));
}

static void resolve_tls(struct effective *e, const struct general_config *g,
                        const struct pool_config *p)
{
    struct server_tls tls = server_tls_resolve(g, p);
    const char *files[] = {tls.ca_cert, tls.certificate, tls.private_key};

    e->server_tls_mode = tls.mode;
    e->server_tls_ca_cert = tls.ca_cert;
    e->server_tls_certificate = tls.certificate;
    e->server_tls_private_key = tls.private_key;
    if (tls.mode != SERVER_TLS_DISABLE)
        files_digest(e->server_tls_digest, files, COUNT_OF(files));
}

static void resolve_fallback(struct effective *e, const struct general_config *g,
                             const struct pool_config *p)
{
    const struct string_list *urls = p->patroni_api_urls.items != NULL ? &p->patroni_api_urls
                                                                       : &g->patroni_api_urls;

    e->patroni_api_urls = *urls;
    e->fallback_cooldown_ms = first_set(p->fallback_cooldown,
                                        first_set(g->fallback_cooldown, FALLBACK_COOLDOWN_MS));
    e->patroni_api_timeout_ms = first_set(
        p->patroni_api_timeout, first_set(g->patroni_api_timeout, PATRONI_API_TIMEOUT_MS));
    e->fallback_connect_timeout_ms = first_set(
        p->fallback_connect_timeout,
        first_set(g->fallback_connect_timeout, FALLBACK_CONNECT_TIMEOUT_MS));
    e->fallback_lifetime_ms = first_set(p->fallback_lifetime,
                                        first_set(g->fallback_lifetime, e->fallback_cooldown_ms));
}

static enum pool_mode mode_of(const char *text)
{
    return strcmp(text, "session") == 0 ? POOL_MODE_SESSION : POOL_MODE_TRANSACTION;
}

/* What all users of a pool have in common. */
static void resolve_pool(struct effective *e, const struct config *c, const struct pool_config *p,
                         struct arena *arena)
{
    const struct general_config *g = &c->general;

    *e = (struct effective){.mode = mode_of(p->pool_mode),
                            .server_host = p->server_host,
                            .server_port = (uint16_t)p->server_port,
                            .server_database = first_text(p->server_database, p->name),
                            .application_name = first_text(p->application_name, "pg_doorman")};
    resolve_timeouts(e, g, p);
    resolve_growth(e, g, p);
    resolve_caches(e, g, p);
    resolve_tls(e, g, p);
    resolve_fallback(e, g, p);
    e->startup_parameters = pairs_merge(arena, &g->startup_parameters, &p->startup_parameters);
    for (size_t i = 0; i < e->startup_parameters.count; i++)
        if (strcmp(e->startup_parameters.items[i].name, "application_name") == 0)
            e->application_name = e->startup_parameters.items[i].value;
}

static void resolve_user(struct user_config *u, const struct effective *common)
{
    struct effective *e = &u->effective;

    *e = *common;
    if (u->pool_mode != NULL)
        e->mode = mode_of(u->pool_mode);
    e->pool_size = (uint32_t)u->pool_size;
    e->min_pool_size = (uint32_t)first_set(u->min_pool_size, 0);
    e->server_lifetime_ms = first_set(u->server_lifetime, common->server_lifetime_ms);
    e->server_user = first_text(u->server_username, u->username);
    /* An empty password for nobody in particular is none. */
    bool none = u->server_password == NULL ||
                (*u->server_password == '\0' && u->server_username == NULL);
    e->server_password = none ? NULL : u->server_password;
}

static void resolve_auth_query(struct auth_query_config *a, const struct effective *common)
{
    a->effective = *common;
    a->effective.pool_size = (uint32_t)a->pool_size;
    a->effective.min_pool_size = a->server_user == NULL ? (uint32_t)a->min_pool_size : 0;
    a->effective.server_user = a->server_user;
    if (a->server_user != NULL)
        a->effective.server_password = first_text(a->server_password, "");
    a->executor = *common;
    a->executor.mode = POOL_MODE_SESSION; /* no statements of its own */
    a->executor.connect_timeout_ms = EXECUTOR_CONNECT_TIMEOUT_MS;
    a->executor.server_lifetime_ms = 0;
    a->executor.idle_timeout_ms = 0;
    a->executor.server_user = a->user;
    a->executor.server_password = *a->password == '\0' ? NULL : a->password;
    if (a->database != NULL)
        a->executor.server_database = a->database;
    /* What clients are to find has nothing to do with how the query is to be read. */
    a->executor.startup_parameters = (struct pair_list){0};
}

void config_resolve(struct config *c, struct arena *arena)
{
    for (size_t i = 0; i < c->pool_count; i++) {
        struct pool_config *p = &c->pools[i];
        struct effective common;
        resolve_pool(&common, c, p, arena);
        for (size_t j = 0; j < p->user_count; j++)
            resolve_user(&p->users[j], &common);
        if (p->auth_query != NULL)
            resolve_auth_query(p->auth_query, &common);
    }
}
