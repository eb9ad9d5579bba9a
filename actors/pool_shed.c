/* Saying no at once to a client that would only make the queue longer. Opt-in: most would rather
 * wait. A queue that grows without end serves nobody in time. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include "runtime/log.h"

/* So many waiters would be served if every backend that may exist were there. */
static uint32_t room_to_serve(const struct pool *p)
{
    uint32_t leased = p->count[BACKEND_LEASED];
    uint32_t busy = leased - MIN(leased, p->extra);

    return p->effective->pool_size - MIN(busy, p->effective->pool_size);
}

/* Until the one behind `before` others gets a backend that comes back: by how often they have come
 * back just now, or by how long transactions take, whichever promises more. 0: not known. */
static uint64_t expected_us(struct worker *w, struct pool *p, uint32_t before)
{
    uint64_t slow_us = atomic_load_explicit(&p->shared->transaction_p95_us, memory_order_relaxed);
    uint64_t gap_us = pool_return_gap_us(w, p);

    if (p->paused)
        return 0;
    return (before + 1) * MIN(gap_us, slow_us / MAX(p->effective->pool_size, 1u));
}

bool pool_shed(struct worker *w, struct pool *p, const struct waiter *waiter)
{
    const struct effective *e = p->effective;
    char text[256];

    if (LIKELY(e->max_waiters == 0 && !e->shed_expected_timeouts))
        return false;
    uint32_t room = room_to_serve(p);
    if (p->waiting < room)
        return false;
    uint32_t before = p->waiting - room;
    if (e->max_waiters != 0 && before >= e->max_waiters)
        pool_trouble(text, sizeof text, "%u clients wait already (max_waiters)", before);
    else if (e->shed_expected_timeouts &&
             w->now_us + expected_us(w, p, before) > waiter->deadline_us)
        pool_trouble(text, sizeof text,
                     "%u clients wait already, more than are served in time "
                     "(shed_expected_timeouts)",
                     before);
    else
        return false;
    log_warn("[%s@%s] phase=shed refused at once, size=%u waiting=%u", p->shared->user,
             p->shared->database, pool_size_now(p), p->waiting);
    pool_refuse(w, waiter->session, waiter->ticket, "53300", text);
    return true;
}
