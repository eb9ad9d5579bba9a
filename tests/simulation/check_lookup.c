/* Users that are looked up: their pools come and go as they may, and what looks them up is in
 * order.
 */
#include "tests/simulation/check.h"

#include "actors/auth_query.h"
#include "runtime/sim.h"
#include "tests/simulation/lookups.h"
#include "tests/simulation/processes.h"

#include <stdlib.h>

/* --- sessions of a pool --- */

static const struct pool_shared *looked_for;
static unsigned counted_in;

/* It has been told which pool it uses, and may use it. */
static bool uses_pool(const struct session *s)
{
    switch (s->phase) {
    case SESSION_LOGIN:
    case SESSION_IDLE:
    case SESSION_WAITING:
    case SESSION_BOUND:
    case SESSION_RELEASING:
    case SESSION_DRAINING: return true;
    default: return false;
    }
}

static void count_session(struct actor *a)
{
    const struct session *s = session_of(a);

    counted_in += !a->dying && s->shared == looked_for && s->admitted;
}

static unsigned sessions_of(const struct pool_shared *shared)
{
    looked_for = shared;
    counted_in = 0;
    check_each(&session_type, count_session);
    return counted_in;
}

void check_lookup_session(const struct session *s)
{
    if (!s->admitted || !uses_pool(s) || lookups.removed > 0)
        return;
    const struct account *a = lookups_account(s->shared->user);
    bool written = a != NULL && a->found.rewrites > 0;

    if (atomic_load(&s->shared->pool) == 0 && !written)
        sim_fail("session %u of %s has no pool any more", s->actor.index, s->shared->user);
}

/* --- pools --- */

static uint64_t created(const struct pool_shared *shared)
{
    return atomic_load(&auth_query_state_of(shared->database)->counters.created);
}

static uint64_t destroyed(const struct pool_shared *shared)
{
    return atomic_load(&auth_query_state_of(shared->database)->counters.destroyed);
}

struct pool_before check_lookup_before(const struct pool *p)
{
    if (!lookups.any)
        return (struct pool_before){.shared = p->shared};
    return (struct pool_before){
        .shared = p->shared,
        .dynamic = p->dynamic,
        .removed = p->removed,
        .served = p->parameters_known,
        .busy = p->backends != NULL || p->waiting > 0 || p->paused || p->staying > 0,
        .created = created(p->shared),
        .destroyed = destroyed(p->shared),
    };
}

/* Nobody has it, and nothing is on its way to it. */
static void check_collected(const struct pool_before *before, uint16_t kind)
{
    unsigned sessions = sessions_of(before->shared);

    if (sessions > 0)
        sim_fail("the pool of %s is given up, and %u sessions have it", before->shared->user,
                 sessions);
    if (kind != MSG_POOL_CONFIGURE && before->busy)
        sim_fail("the pool of %s is given up in the middle of something", before->shared->user);
}

/* What the configuration in force says of it. */
static bool is_wanted(const struct pool_shared *shared, bool *dynamic)
{
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, shared->database);
    bool written = pool != NULL && config_user(pool, shared->user) != NULL;
    const struct auth_query_config *found = pool == NULL ? NULL : pool->auth_query;

    *dynamic = !written && found != NULL && found->server_user == NULL;
    bool wanted = written || *dynamic ||
                  (found != NULL && found->server_user != NULL &&
                   strcmp(found->server_user, shared->user) == 0);
    config_unref(config);
    return wanted;
}

static void check_counts(const struct pool *p, const struct pool_before *before, uint16_t kind)
{
    bool begins = !before->dynamic && p->dynamic;
    bool ends = before->dynamic && !p->dynamic;
    /* One that never had a connection does not count when it goes. */
    bool counts = ends && (before->served || kind == MSG_POOL_CONFIGURE);

    if (created(before->shared) != before->created + begins)
        sim_fail("the pool of %s is counted as created %llu times", before->shared->user,
                 (unsigned long long)(created(before->shared) - before->created));
    if (destroyed(before->shared) != before->destroyed + counts)
        sim_fail("the pool of %s is counted as destroyed %llu times", before->shared->user,
                 (unsigned long long)(destroyed(before->shared) - before->destroyed));
}

void check_lookup_after(const struct pool *p, const struct pool_before *before, uint16_t kind)
{
    bool dynamic = false;

    if (!lookups.any)
        return;
    check_counts(p, before, kind);
    bool given_up = !before->removed && (p->removed || p->actor.dying);
    bool wanted = is_wanted(before->shared, &dynamic);
    if (given_up && !before->dynamic && wanted && kind != MSG_POOL_CONFIGURE)
        sim_fail("the pool of %s, who is configured, is given up", before->shared->user);
    if (given_up && before->dynamic && wanted && dynamic)
        check_collected(before, kind);
    if (!given_up && !p->removed && !p->actor.dying && kind == MSG_POOL_CONFIGURE &&
        p->dynamic != dynamic)
        sim_fail("the pool of %s is %s", before->shared->user,
                 p->dynamic ? "dynamic, and it is configured" : "not dynamic, and was found");
}

static unsigned dynamic_now;

/* What a connection was opened with is what it would be opened with now, or it is outdated. */
static void check_startup(const struct pool *p, const struct backend *b)
{
    const struct pair_list *has = &b->effective->startup_parameters;
    const struct pair_list *wants = &p->effective->startup_parameters;
    bool same = has->count == wants->count;

    for (size_t i = 0; same && i < has->count; i++)
        same = strcmp(has->items[i].name, wants->items[i].name) == 0 &&
               strcmp(has->items[i].value, wants->items[i].value) == 0;
    if (!same)
        sim_fail("backend pid %d of %s is idle, with startup parameters of earlier", b->pid,
                 p->shared->user);
}

void check_lookup_pool(const struct pool *p)
{
    if (!lookups.any)
        return;
    dynamic_now += p->dynamic;
    for (const struct backend *b = p->backends; p->dynamic && b != NULL; b = b->pool_next) {
        if (b->state == BACKEND_IDLE && b->epoch == p->epoch)
            check_startup(p, b);
    }
}

void check_lookup_step(void)
{
    if (lookups.any) {
        uint32_t known = atomic_load(&auth_query_state_of("db0")->dynamic_pools);

        if (known != dynamic_now)
            sim_fail("there are %u dynamic pools, and %u are known", dynamic_now, known);
    }
    dynamic_now = 0;
}

/* --- what looks them up --- */

static unsigned list_len(const struct cache_list *list, bool found)
{
    unsigned len = 0;

    for (const struct cache_entry *e = list->oldest; e != NULL; e = e->newer) {
        len++;
        if (e->found != found || (e->newer == NULL) != (e == list->newest))
            sim_fail("the cache has %s in the wrong list", e->user);
    }
    return len;
}

static void check_cache(const struct auth_query *a)
{
    size_t listed = list_len(&a->cache.lists[false], false) + list_len(&a->cache.lists[true], true);

    /* Nobody asks for others. */
    if (a->cache.count != listed || listed > lookups.users + 2)
        sim_fail("the cache has %zu names, of %zu in its lists", a->cache.count, listed);
    if (!a->removed && atomic_load(&a->state->counters.entries) != listed)
        sim_fail("the cache has %zu names, and %llu are told", listed,
                 (unsigned long long)atomic_load(&a->state->counters.entries));
}

static const struct executor *executor_of(const struct auth_query *a, actor_id backend)
{
    for (uint32_t i = 0; i < a->executor_count; i++) {
        if (a->executors[i].backend == backend)
            return &a->executors[i];
    }
    return NULL;
}

static void check_executors(const struct auth_query *a)
{
    const struct lookup *waits = NULL;
    unsigned current = 0;
    unsigned idle = 0;

    for (const struct lookup *l = a->lookups; l != NULL; l = l->next) {
        const struct executor *e = l->backend == 0 ? NULL : executor_of(a, l->backend);

        if (l->askers == NULL)
            sim_fail("%s is looked up for nobody", l->user);
        if (l->backend != 0 && (e == NULL || e->state != EXECUTOR_BUSY))
            sim_fail("%s is looked up by a connection that does something else", l->user);
        if (l->backend == 0)
            waits = l;
        for (const struct lookup *other = l->next; other != NULL; other = other->next) {
            if (strcmp(other->user, l->user) == 0)
                sim_fail("%s is looked up twice at the same time", l->user);
        }
    }
    for (uint32_t i = 0; i < a->executor_count; i++) {
        const struct executor *e = &a->executors[i];

        current += e->backend != 0 && !e->outdated && e->state != EXECUTOR_CLOSING;
        idle += e->backend != 0 && e->state == EXECUTOR_IDLE;
    }
    if (current > a->settings->workers)
        sim_fail("%u connections look users up, of %u", current, (unsigned)a->settings->workers);
    if (waits != NULL && idle > 0)
        sim_fail("%s waits to be looked up, and a connection is idle", waits->user);
}

void check_auth_query(const struct auth_query *a)
{
    check_cache(a);
    if (a->config != NULL)
        check_executors(a);
    if (a->removed && a->lookups != NULL)
        sim_fail("%s waits for what is not there any more", a->lookups->user);
}

/* --- at rest --- */

static unsigned idle_executors;
static bool busy_executors;

static void look_at_executors(struct actor *actor)
{
    const struct auth_query *a = auth_query_of(actor);

    busy_executors |= a->lookups != NULL || a->removed;
    for (uint32_t i = 0; i < a->executor_count; i++) {
        if (a->executors[i].backend == 0)
            continue;
        if (a->executors[i].state == EXECUTOR_IDLE)
            idle_executors++;
        else
            busy_executors = true;
    }
}

bool check_lookup_idle(unsigned *connections)
{
    idle_executors = 0;
    busy_executors = false;
    if (lookups.any)
        check_each(&auth_query_type, look_at_executors);
    *connections = idle_executors;
    return !busy_executors;
}

static void check_known(const struct pool_shared *shared)
{
    const struct account *a = lookups_account(shared->user);
    unsigned overlay = 0;

    for (size_t i = 0; shared->overlay != NULL && i < shared->overlay->count; i++) {
        if (strcmp(shared->overlay->items[i].name, "work_mem") == 0)
            overlay = overlay_of(shared->overlay->items[i].value);
    }
    if (a != NULL && a->role == ROLE_FOUND)
        lookups_check_known(a, overlay);
}

static void nobody_has(void *context, struct pool_shared *shared)
{
    (void)context;
    check_known(shared);
    if (atomic_load(&shared->clients) != 0)
        sim_fail("at rest %u clients have the pool of %s", atomic_load(&shared->clients),
                 shared->user);
}

void check_lookup_at_rest(void)
{
    if (lookups.any)
        directory_each(nobody_has, NULL);
}

static bool dynamic_found;

static void look_for_dynamic(struct actor *a)
{
    dynamic_found |= pool_of(a)->dynamic;
}

bool check_lookup_is_collected(void)
{
    dynamic_found = false;
    check_each(&pool_type, look_for_dynamic);
    return lookups.min_pool_size > 0 || !dynamic_found;
}

bool check_lookup_is_gone(void)
{
    dynamic_found = false;
    check_each(&pool_type, look_for_dynamic);
    return !dynamic_found && actor_count(&auth_query_type) == 0;
}
