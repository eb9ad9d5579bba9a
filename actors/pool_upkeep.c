/* What a pool does from time to time, and what it is told from above. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include "runtime/log.h"

_Atomic uint32_t pool_trim_quota;

/* --- the retain cycle --- */

static bool take_quota(void)
{
    uint32_t left = atomic_load(&pool_trim_quota);

    while (left > 0 && left != UINT32_MAX) {
        if (atomic_compare_exchange_weak(&pool_trim_quota, &left, left - 1))
            return true;
    }
    return left == UINT32_MAX;
}

static const char *expired(struct worker *w, const struct backend *b)
{
    if (b->lifetime_us != 0 && elapsed_us(w, b->created_us) > b->lifetime_us)
        return "lifetime exceeded";
    if (b->idle_limit_us != 0 && b->uses > 0 && elapsed_us(w, b->idle_since_us) > b->idle_limit_us)
        return "idle timeout";
    return NULL;
}

/* With a quota the oldest go first. */
static struct backend *oldest_expired(struct worker *w, const struct pool *p)
{
    struct backend *oldest = NULL;

    for (struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        if (b->state == BACKEND_IDLE && expired(w, b) != NULL &&
            (oldest == NULL || b->created_us < oldest->created_us))
            oldest = b;
    }
    return oldest;
}

/* When texts take much memory, those that rest lose their statements: half of them at a time, so
 * that who comes meanwhile finds others. */
static void take_statements(struct worker *w, struct pool *p)
{
    uint64_t allowance = statement_set_allowance();
    uint32_t most = (p->idle_count + 1) / 2;
    uint32_t taken = 0;

    if (allowance == UINT64_MAX)
        return;
    for (struct backend *b = p->backends; b != NULL && taken < most; b = b->pool_next) {
        if (b->state != BACKEND_IDLE || b->statements == NULL ||
            statement_set_text_bytes(b->statements) <= allowance)
            continue;
        pool_idle_remove(p, b);
        b->dirt |= SCAN_PREPARE;
        pool_backend_go(p, b, BACKEND_CLEANING);
        actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_CLEAN);
        taken++;
    }
    statement_cache_relieve(&p->shared->statements, UINT32_MAX);
}

void pool_on_tick(struct worker *w, struct pool *p)
{
    struct backend *b;

    while (p->waiting == 0 && (b = oldest_expired(w, p)) != NULL && take_quota()) {
        pool_idle_remove(p, b);
        pool_backend_end(w, p, b, expired(w, b));
    }
    if (UNLIKELY(statement_pressed()))
        take_statements(w, p);
    pool_grow(w, p);
    p->scaling.deferred += !p->paused && pool_size_now(p) - p->count[BACKEND_CLOSING] + p->staying <
                                             p->effective->min_pool_size;
    pool_collect(w, p);
}

/* --- commands --- */

void pool_on_pause(struct worker *w, struct pool *p, bool paused)
{
    p->paused = paused;
    log_info("%s: %s pool %s@%s", paused ? "PAUSE" : "RESUME", paused ? "paused" : "resumed",
             p->shared->user, p->shared->database);
    pool_dispatch(w, p);
}

void pool_on_alone(struct worker *w, struct pool *p)
{
    pool_adopt_end(w, p, 0, false);
    pool_dispatch(w, p);
}

void pool_on_reconnect(struct worker *w, struct pool *p)
{
    p->epoch++;
    pool_end_idle(w, p, "reconnect epoch outdated");
    log_info("RECONNECT: reconnected pool %s@%s (new epoch: %u)", p->shared->user,
             p->shared->database, p->epoch);
    pool_dispatch(w, p);
}

/* --- the configuration --- */

static bool text_changed(const char *a, const char *b)
{
    return (a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0);
}

/* Would a backend opened today be a different one? */
static bool server_changed(const struct effective *a, const struct effective *b)
{
    bool changed = a->server_port != b->server_port || a->server_tls_mode != b->server_tls_mode ||
                   text_changed(a->server_host, b->server_host) ||
                   text_changed(a->server_database, b->server_database) ||
                   text_changed(a->server_user, b->server_user) ||
                   text_changed(a->server_password, b->server_password) ||
                   text_changed(a->application_name, b->application_name) ||
                   a->startup_parameters.count != b->startup_parameters.count;

    for (size_t i = 0; !changed && i < a->startup_parameters.count; i++)
        changed = text_changed(a->startup_parameters.items[i].name,
                               b->startup_parameters.items[i].name) ||
                  text_changed(a->startup_parameters.items[i].value,
                               b->startup_parameters.items[i].value);
    return changed;
}

static bool limits_changed(const struct effective *a, const struct effective *b)
{
    return a->server_lifetime_ms != b->server_lifetime_ms ||
           a->idle_timeout_ms != b->idle_timeout_ms;
}

/* The user is no longer configured. */
void pool_close(struct worker *w, struct pool *p)
{
    actor_id mine = actor_id_of(&p->actor);

    /* A later reload may have put another in its place already. */
    atomic_compare_exchange_strong(&p->shared->pool, &mine, 0);
    p->removed = true;
    statement_cache_clear(&p->shared->statements);
    pool_end_idle(w, p, "pool removed");
    pool_refuse_all(w, p, "53300", POOL_CLOSED);
    pool_permits_unwant(w, p);
}

static void replace_backends(struct worker *w, struct pool *p)
{
    log_info("[%s@%s] settings of the server changed, connections are replaced", p->shared->user,
             p->shared->database);
    p->parameters_known = false;
    p->epoch++;
    pool_end_idle(w, p, "configuration changed");
}

/* Takes over the reference. */
static void adopt(struct worker *w, struct pool *p, struct config *config,
                  const struct effective *effective)
{
    const struct effective *before = p->effective;
    struct config *config_before = p->config;

    p->config = config;
    p->effective = effective;
    if (before == NULL)
        return;
    p->mixed_deadlines |= before->query_wait_timeout_ms != effective->query_wait_timeout_ms;
    if (limits_changed(before, effective)) {
        for (struct backend *b = p->backends; b != NULL; b = b->pool_next)
            backend_limit(w, b, effective);
    }
    if (server_changed(before, effective))
        replace_backends(w, p);
    config_unref(config_before);
}

/* A user that was found may be written down now, or the other way round. */
static void follow_origin(struct pool *p, bool dynamic)
{
    if (dynamic && !p->dynamic) {
        pool_dynamic_begin(p);
    } else if (!dynamic && p->dynamic) {
        log_info("static user '%s' overrides dynamic pool %s@%s", p->shared->user, p->shared->user,
                 p->shared->database);
        pool_dynamic_end(p, true);
    }
}

/* A pool of its section is not what it was: one that nobody uses now is made anew when needed. */
static bool section_changed(const struct pool *p, const struct config *config)
{
    return p->config != NULL && p->config != config &&
           !config_pool_same(config_pool(p->config, p->shared->database),
                             config_pool(config, p->shared->database));
}

static void no_longer_wanted(struct worker *w, struct pool *p)
{
    if (p->removed) {
        /* It came so from another process: till it ends, its connections count. A reload that
         * brings the name back makes a new pool. */
        statement_cache_clear(&p->shared->statements);
        if (config_pool(p->config, p->shared->database) != NULL)
            pool_permits_configure(w, p);
        return;
    }
    if (p->dynamic) {
        log_info("RELOAD: removed 1 dynamic pool(s): %s@%s", p->shared->user, p->shared->database);
        pool_dynamic_end(p, true);
    }
    pool_close(w, p);
}

void pool_configure_quietly(struct worker *w, struct pool *p)
{
    struct config *config = app_config();
    const struct effective *effective = pool_wanted(config, p->shared);

    INVARIANT(effective != NULL && p->config == NULL);
    follow_origin(p, pool_wanted_dynamic(config, p->shared));
    pool_follow(p->shared, effective);
    adopt(w, p, config, effective);
    /* What it inherits counts before others ask for what is free. */
    pool_permits_configure(w, p);
}

void pool_on_configure(struct worker *w, struct pool *p)
{
    struct config *config = app_config();
    const struct effective *effective = p->removed ? NULL : pool_wanted(config, p->shared);
    bool dynamic = pool_wanted_dynamic(config, p->shared);

    if (effective == NULL) {
        config_unref(config);
        no_longer_wanted(w, p);
        return;
    }
    if (dynamic && p->dynamic && section_changed(p, config) && pool_collect_reconfigured(w, p)) {
        config_unref(config);
        return;
    }
    follow_origin(p, dynamic);
    pool_follow(p->shared, effective);
    adopt(w, p, config, effective);
    pool_permits_configure(w, p);
    while (pool_size_kept(p) > p->effective->pool_size && p->idle_count > 0)
        pool_backend_end(w, p, pool_idle_pop(p), "pool size reduced");
    pool_dispatch(w, p);
}
