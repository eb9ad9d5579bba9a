/* Server connections and waiters that go from one process to another. */
#include "actors/pool_internal.h"

/* What is asked of settings while a transaction comes to its end: nothing is opened or kept. */
static const struct effective of_gone = {
    .mode = POOL_MODE_TRANSACTION,
    .connect_timeout_ms = 3000,
    .server_host = "(pool removed)",
    .server_database = "",
    .server_user = "",
    .application_name = "",
    .prepared_cache_size = 1,
    .server_prepared_cache_size = 100,
};

struct pool *pool_adopt_gone(struct worker *w, struct pool_shared *shared)
{
    struct pool *p = pool_of(actor_new(&pool_type, w->index));

    p->shared = shared;
    p->config = app_config();
    p->effective = &of_gone;
    p->removed = true;
    actor_release(w, &p->actor);
    return p;
}

void pool_forget_backend(struct worker *w, struct pool *p, struct backend *b)
{
    if (b->state == BACKEND_IDLE)
        pool_idle_remove(p, b);
    pool_backend_drop(w, p, b);
    /* A hang-up that is told by now finds nothing to be taken away. */
    b->state = BACKEND_CLOSING;
}

static bool counts_later(const struct pool *p)
{
    return strcmp(p->config->general.upgrade_inherited_accounting, "strict") != 0;
}

void pool_adopt_backend(struct worker *w, struct pool *p, struct backend *b, bool leased)
{
    pool_permits_inherit(w, p, 1);
    pool_backend_add(p, b);
    pool_backend_go(p, b, BACKEND_IDLE);
    p->replaced += b->replaced;
    if (leased) {
        b->extra = counts_later(p);
        p->extra += b->extra;
        pool_backend_go(p, b, BACKEND_LEASED);
    } else {
        pool_idle_push(p, b);
    }
}

void pool_adopt_end(struct worker *w, struct pool *p, uint32_t staying, bool drains)
{
    if (staying > p->staying)
        pool_permits_inherit(w, p, staying - p->staying);
    for (uint32_t i = staying; i < p->staying && p->permits.coordinator != 0; i++)
        pool_permit_release(w, p, EVICTED_NOT);
    p->staying = staying;
    p->staying_extra = drains && counts_later(p) ? staying : 0;
}
