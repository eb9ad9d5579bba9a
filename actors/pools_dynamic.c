/* Pools of users that auth_query has found: made at the first login, given up when nobody needs
 * them any more.
 *
 * One lock makes one step of "nobody uses it" and "it is gone", and of "it is there" and "somebody
 * uses it": a session that has been admitted has a pool as long as the configuration has one for
 * its user. */
#define LOG_MODULE "pg_doorman::pool::gc"
#include "actors/pool_internal.h"

#include "actors/auth_query.h"
#include "config/derive.h"
#include "runtime/log.h"

#include <stdlib.h>

static pthread_mutex_t admit_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- startup parameters of one user --- */

static void overlay_free(struct pair_list *overlay)
{
    if (overlay == NULL)
        return;
    for (size_t i = 0; i < overlay->count; i++) {
        free(overlay->items[i].name);
        free(overlay->items[i].value);
    }
    free(overlay->items);
    free(overlay);
}

/* NULL for none. */
static struct pair_list *overlay_copy(const struct pair_list *from)
{
    if (from->count == 0)
        return NULL;
    struct pair_list *copy = calloc(1, sizeof *copy);
    INVARIANT(copy != NULL);
    copy->items = calloc(from->count, sizeof *copy->items);
    INVARIANT(copy->items != NULL);
    for (size_t i = 0; i < from->count; i++) {
        struct pair *pair = &copy->items[copy->count++];

        pair->name = strdup(from->items[i].name);
        pair->value = strdup(from->items[i].value);
        INVARIANT(pair->name != NULL && pair->value != NULL);
    }
    return copy;
}

static bool overlay_same(const struct pair_list *a, const struct pair_list *b)
{
    size_t count = a == NULL ? 0 : a->count;

    if (count != b->count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(a->items[i].name, b->items[i].name) != 0 ||
            strcmp(a->items[i].value, b->items[i].value) != 0)
            return false;
    }
    return true;
}

/* With shared's lock. True: they are others than before. */
static bool overlay_replace(struct pool_shared *shared, const struct pair_list *overlay)
{
    if (overlay_same(shared->overlay, overlay))
        return false;
    overlay_free(shared->overlay);
    shared->overlay = overlay_copy(overlay);
    return true;
}

/* --- what was found --- */

void pools_looked_up(struct worker *w, const char *database, const char *user, const char *secret,
                     const struct pair_list *overlay)
{
    struct pool_shared *shared = directory_add(database, user);
    bool changed = false;

    pthread_mutex_lock(&shared->lock);
    if (atomic_load(&shared->origin) != ORIGIN_STATIC) { /* what is written down counts */
        secret_look_up(shared, secret);
        changed = overlay_replace(shared, overlay);
        if (atomic_load(&shared->origin) == ORIGIN_NONE)
            atomic_store(&shared->origin, ORIGIN_LOOKED_UP);
    }
    pthread_mutex_unlock(&shared->lock);
    actor_id pool = atomic_load(&shared->pool);
    if (changed && pool != 0)
        actor_tell_kind(w, pool, MSG_POOL_CONFIGURE);
}

/* The world stands, and this is its only hand. */
void pools_restore(struct worker *w, const char *database, const char *user, const char *secret,
                   const struct pair_list *overlay)
{
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, database);
    struct pool_shared *shared = directory_find(database, user);

    /* One that is here already knows better. */
    if (pool != NULL && pool->auth_query != NULL && pool->auth_query->server_user == NULL &&
        config_user(pool, user) == NULL && (shared == NULL || atomic_load(&shared->pool) == 0)) {
        pools_looked_up(w, database, user, secret, overlay);
        struct pool *p = pool_of(actor_new(&pool_type, w->index));
        p->shared = directory_find(database, user);
        atomic_store(&p->shared->pool, actor_id_of(&p->actor));
        pool_configure_quietly(w, p);
        actor_release(w, &p->actor);
    }
    config_unref(config);
}

const struct effective *pool_wanted(struct config *config, struct pool_shared *shared)
{
    static const struct pair_list none;
    const struct pool_config *pool = config_pool(config, shared->database);
    const struct user_config *user = pool == NULL ? NULL : config_user(pool, shared->user);

    if (user != NULL)
        return &user->effective;
    if (pool == NULL || pool->auth_query == NULL)
        return NULL;
    if (pool->auth_query->server_user != NULL)
        return strcmp(pool->auth_query->server_user, shared->user) == 0
                   ? &pool->auth_query->effective
                   : NULL;
    if (atomic_load(&shared->origin) != ORIGIN_LOOKED_UP)
        return NULL;
    pthread_mutex_lock(&shared->lock);
    const struct effective *found = config_derive(
        config, pool, shared->user, shared->overlay == NULL ? &none : shared->overlay);
    pthread_mutex_unlock(&shared->lock);
    return found;
}

bool pool_wanted_dynamic(const struct config *config, const struct pool_shared *shared)
{
    const struct pool_config *pool = config_pool(config, shared->database);

    return pool != NULL && pool->auth_query != NULL && pool->auth_query->server_user == NULL &&
           config_user(pool, shared->user) == NULL;
}

/* --- coming and going --- */

static void count_created(const struct pool_shared *shared)
{
    struct auth_query_state *state = auth_query_state_of(shared->database);

    atomic_fetch_add(&state->counters.created, 1);
    atomic_fetch_add(&state->dynamic_pools, 1);
}

/* With the lock. A reload that passed by while the pool was being made may not have seen it. */
static void create(struct worker *w, struct pool_shared *shared, const struct config *config)
{
    pool_create(w, shared);
    struct config *now = app_config();
    if (now != config)
        actor_tell_kind(w, atomic_load(&shared->pool), MSG_POOL_CONFIGURE);
    config_unref(now);
}

void pools_ensure(struct worker *w, struct pool_shared *shared)
{
    pthread_mutex_lock(&admit_lock);
    if (atomic_load(&shared->pool) == 0)
        pool_create(w, shared);
    pthread_mutex_unlock(&admit_lock);
}

void pools_admit(struct worker *w, struct pool_shared *shared)
{
    pthread_mutex_lock(&admit_lock);
    struct config *config = app_config();
    const struct effective *effective = pool_wanted(config, shared);
    atomic_fetch_add(&shared->clients, 1);
    if (atomic_load(&shared->pool) == 0 && effective != NULL) {
        pool_follow(shared, effective);
        create(w, shared, config);
    }
    pthread_mutex_unlock(&admit_lock);
    config_unref(config);
}

bool pools_stay(const struct pool *p)
{
    if (p->dynamic)
        atomic_fetch_add(&p->shared->clients, 1);
    return p->dynamic;
}

void pools_leave(struct worker *w, struct pool_shared *shared, bool in_vain)
{
    bool last = atomic_fetch_sub(&shared->clients, 1) == 1;
    actor_id pool = atomic_load(&shared->pool);

    if (last && in_vain && pool != 0)
        actor_tell_kind(w, pool, MSG_POOL_COLLECT);
}

void pool_dynamic_begin(struct pool *p)
{
    p->dynamic = true;
    count_created(p->shared);
}

void pool_dynamic_end(struct pool *p, bool counts)
{
    struct auth_query_state *state = auth_query_state_of(p->shared->database);

    p->dynamic = false;
    atomic_fetch_add(&state->counters.destroyed, counts);
    atomic_fetch_sub(&state->dynamic_pools, 1);
}

/* Nobody is there, and nobody can come before it is gone. */
static bool give_up(struct pool *p)
{
    actor_id mine = actor_id_of(&p->actor);

    pthread_mutex_lock(&admit_lock);
    bool unused = atomic_load(&p->shared->clients) == 0;
    if (unused)
        atomic_compare_exchange_strong(&p->shared->pool, &mine, 0);
    pthread_mutex_unlock(&admit_lock);
    return unused;
}

void pool_collect(struct worker *w, struct pool *p)
{
    if (!p->dynamic || p->removed || p->paused || p->backends != NULL || p->waiting > 0 ||
        p->staying > 0 || p->effective->min_pool_size > 0 || !give_up(p))
        return;
    if (p->parameters_known)
        log_info("GC: removed 1 idle dynamic pool(s): %s@%s", p->shared->user, p->shared->database);
    pool_dynamic_end(p, p->parameters_known);
    pool_close(w, p);
}

bool pool_collect_reconfigured(struct worker *w, struct pool *p)
{
    if (!give_up(p))
        return false;
    log_info("RELOAD: removed 1 dynamic pool(s): %s@%s", p->shared->user, p->shared->database);
    pool_dynamic_end(p, true);
    pool_close(w, p);
    return true;
}
