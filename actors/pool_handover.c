/* Server connections and waiters that go from one process to another. */
#include "actors/pool_internal.h"

void pool_forget_backend(struct worker *w, struct pool *p, struct backend *b)
{
    if (b->state == BACKEND_IDLE)
        pool_idle_remove(p, b);
    pool_backend_drop(w, p, b);
}

void pool_adopt_begin(struct worker *w, struct pool *p)
{
    pool_permits_leave(w, p);
}

void pool_adopt_backend(struct pool *p, struct backend *b, bool leased)
{
    pool_backend_add(p, b);
    pool_backend_go(p, b, BACKEND_IDLE);
    p->replaced += b->replaced;
    if (leased)
        pool_backend_go(p, b, BACKEND_LEASED);
    else
        pool_idle_push(p, b);
}
