/* Where max_db_connections caps the database, each backend stands for a permit, from before it
 * connects until it is closed. The coordinator counts; this is the pool's side of it. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include "runtime/log.h"

#include <inttypes.h>

static void tell(struct worker *w, struct pool *p, struct message *m)
{
    m->sender = actor_id_of(&p->actor);
    actor_tell(w, p->permits.coordinator, m);
}

/* --- joining --- */

void pool_permits_leave(struct worker *w, struct pool *p)
{
    uint64_t term = p->permits.term;

    if (p->permits.coordinator == 0)
        return;
    tell(w, p, MESSAGE(COORDINATOR_LEAVE, .term = term));
    p->permits = (struct permits){.term = term};
    for (struct backend *b = p->backends; b != NULL; b = b->pool_next)
        b->evicted = EVICTED_NOT;
}

void pool_permits_configure(struct worker *w, struct pool *p)
{
    const struct pool_config *pool = config_pool(p->config, p->shared->database);
    struct coordination *coordination = config_caps(pool) ? coordination_find(p->shared->database)
                                                          : NULL;

    p->evict_age_us = pool->min_connection_lifetime * 1000;
    p->reserve_wait_us = pool->reserve_pool_timeout * 1000;
    p->effective_minimum = MAX(p->effective->min_pool_size,
                               (uint32_t)MIN(pool->min_guaranteed_pool_size, (uint64_t)UINT32_MAX));
    if (coordination == NULL) {
        pool_permits_leave(w, p);
        return;
    }
    if (p->permits.coordinator == 0)
        p->permits = (struct permits){.coordination = coordination,
                                      .coordinator = coordination->actor,
                                      .term = p->permits.term + 1,
                                      .held = pool_size_now(p) + p->staying};
    tell(w, p,
         MESSAGE(COORDINATOR_JOIN, .term = p->permits.term, .held = p->permits.held,
                 .minimum = p->effective_minimum, .user = bytes_of(p->shared->user)));
}

/* --- wanting --- */

static void granted(struct pool *p, const struct msg_POOL_PERMIT *permit)
{
    struct permits *permits = &p->permits;

    permits->held += (uint32_t)permit->count;
    permits->unused += (uint32_t)permit->count;
    /* What was wanted later stands in place of what this answers. */
    if (!permit->background && permit->number == permits->number)
        permits->wanted -= MIN(permits->wanted, (uint32_t)permit->count);
    if (permits->wanted == 0)
        permits->blocked_us = 0;
}

/* True when some were granted at once. */
static bool ask(struct worker *w, struct pool *p, uint64_t count, uint64_t spare, bool background)
{
    struct message request = {0};
    struct message reply = {0};
    struct msg_COORDINATOR_WANT want = {.term = p->permits.term,
                                        .number = background ? 0 : ++p->permits.number,
                                        .count = count,
                                        .spare = spare,
                                        .background = background};

    message_put_COORDINATOR_WANT(&request, &want);
    if (actor_ask(w, &p->actor, p->permits.coordinator, &request, &reply) != ASK_ANSWERED)
        return false;
    struct msg_POOL_PERMIT permit = message_get_POOL_PERMIT(&reply);
    granted(p, &permit);
    return permit.count > 0;
}

bool pool_permit_take(struct worker *w, struct pool *p, uint32_t count)
{
    struct permits *permits = &p->permits;

    if (LIKELY(permits->coordinator == 0))
        return true;
    if (permits->unused == 0 && permits->wanted != count) {
        permits->wanted = count;
        ask(w, p, count, 0, false);
    }
    if (permits->unused == 0) {
        if (permits->blocked_us == 0)
            permits->blocked_us = w->now_us;
        return false;
    }
    permits->unused--;
    return true;
}

bool pool_permit_take_now(struct worker *w, struct pool *p, uint32_t spare)
{
    struct permits *permits = &p->permits;

    if (LIKELY(permits->coordinator == 0))
        return true;
    if (permits->unused == 0 && !ask(w, p, 1, spare, true))
        return false;
    permits->unused--;
    return true;
}

void pool_permits_unwant(struct worker *w, struct pool *p)
{
    if (LIKELY(p->permits.wanted == 0))
        return;
    p->permits.wanted = 0;
    p->permits.blocked_us = 0;
    ask(w, p, 0, 0, false);
}

void pool_permits_settle(struct worker *w, struct pool *p)
{
    while (UNLIKELY(p->permits.unused > 0)) {
        p->permits.unused--;
        pool_permit_release(w, p, EVICTED_NOT);
    }
}

void pool_permits_inherit(struct worker *w, struct pool *p, uint32_t count)
{
    if (p->permits.coordinator == 0) /* it is told when this pool joins */
        return;
    p->permits.held += count;
    tell(w, p, MESSAGE(COORDINATOR_INHERIT, .term = p->permits.term, .count = count));
}

void pool_permit_release(struct worker *w, struct pool *p, enum eviction evicted)
{
    INVARIANT(p->permits.held > 0);
    p->permits.held--;
    tell(w, p, MESSAGE(COORDINATOR_RELEASE, .term = p->permits.term, .evicted = evicted));
}

void pool_on_permit(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_PERMIT permit = message_get_POOL_PERMIT(m);

    /* Of an earlier time here: it was written off when this pool left. */
    if (p->permits.coordinator == 0 || permit.term != p->permits.term)
        return;
    granted(p, &permit);
    pool_dispatch(w, p);
}

/* --- waiting in vain --- */

/* A queue that moves is worth waiting in until the deadline; one in which nobody has been served
 * for reserve_pool_timeout is not. */
bool pool_expire_blocked(struct worker *w, struct pool *p)
{
    uint64_t stuck_us = MAX(p->permits.blocked_us, p->served_us);
    struct waiter *first;
    char reason[384];
    char text[600];
    bool any = false;

    while ((first = pool_first_waiter(p)) != NULL) {
        uint64_t due_us = MAX(stuck_us, first->since_us) + p->reserve_wait_us;

        if (due_us > w->now_us) {
            pool_want_alarm(w, p, due_us);
            break;
        }
        coordinator_trouble(p->permits.coordination, p->shared->user, reason, sizeof reason);
        pool_trouble(text, sizeof text, "%s", reason);
        log_warn("[%s@%s] phase=coordinator timeout after %" PRIu64 "ms: %s, size=%u waiting=%u",
                 p->shared->user, p->shared->database, elapsed_us(w, first->since_us) / 1000,
                 reason, pool_size_now(p), p->waiting);
        tell(w, p, MESSAGE(COORDINATOR_EXHAUSTED, .term = p->permits.term));
        pool_refuse_at(w, p, p->waiters_head, "53300", text);
        any = true;
    }
    return any;
}

/* --- giving to others --- */

static bool old_enough(struct worker *w, const struct pool *p, const struct backend *b)
{
    return elapsed_us(w, b->created_us) >= p->evict_age_us;
}

static void evict(struct worker *w, struct pool *p, struct backend *b, enum eviction how)
{
    b->evicted = (uint8_t)how;
    pool_backend_end(w, p, b,
                     how == EVICTED_STALE
                         ? "rested, and the reserve is in use"
                         : "evicted: another user of the database needs the connection");
}

/* The oldest idle one that may go; *next_us: when another will be old enough, 0: none is idle. */
static struct backend *evictable(struct worker *w, const struct pool *p, uint64_t rest_us,
                                 uint64_t *next_us)
{
    struct backend *oldest = NULL;

    *next_us = 0;
    for (struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        if (b->state != BACKEND_IDLE)
            continue;
        uint64_t at_us = MAX(b->created_us + p->evict_age_us, b->idle_since_us + rest_us);

        if (at_us > w->now_us)
            *next_us = *next_us == 0 ? at_us : MIN(*next_us, at_us);
        else if (oldest == NULL || b->created_us < oldest->created_us)
            oldest = b;
    }
    return oldest;
}

/* One that is leased and old enough will come back, and go. */
static bool may_promise(struct worker *w, const struct pool *p, uint64_t *next_us)
{
    uint32_t old = 0;

    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        uint64_t at_us = b->created_us + p->evict_age_us;

        if (b->state != BACKEND_LEASED && b->state != BACKEND_CLEANING)
            continue;
        if (at_us > w->now_us)
            *next_us = *next_us == 0 ? at_us : MIN(*next_us, at_us);
        old += at_us <= w->now_us;
    }
    return old > p->permits.owed;
}

void pool_on_evict(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_EVICT want = message_get_POOL_EVICT(m);
    uint64_t next_us;

    if (p->permits.coordinator == 0 || want.term != p->permits.term)
        return;
    struct backend *b = evictable(w, p, want.stale ? p->evict_age_us : want.rest_us, &next_us);
    enum eviction how = EVICTED_NOT;
    if (b != NULL) {
        how = want.stale ? EVICTED_STALE : EVICTED_NOW;
        pool_idle_remove(p, b);
        evict(w, p, b, how);
    } else if (want.yield && may_promise(w, p, &next_us)) {
        how = EVICTED_LATER;
        p->permits.owed++;
    }
    tell(w, p, MESSAGE(COORDINATOR_EVICTING, .term = want.term, .how = how, .next_us = next_us));
}

void pool_on_keep(struct worker *w, struct pool *p, struct message *m)
{
    uint64_t term = message_get_POOL_KEEP(m).term;

    if (p->permits.coordinator == 0 || term != p->permits.term)
        return;
    bool done = p->permits.owed > 0; /* else it is paid already */
    p->permits.owed -= done;
    tell(w, p, MESSAGE(COORDINATOR_KEPT, .term = term, .done = done));
}

/* Whatever it ends of, its permit is one that another pool has been promised. Else more would be
 * owed than there are backends left to pay with. */
enum eviction pool_last_debt(struct pool *p, const struct backend *b)
{
    if (b->evicted != EVICTED_NOT || p->permits.owed == 0)
        return (enum eviction)b->evicted;
    p->permits.owed--;
    return EVICTED_LOST;
}

bool pool_pay_debt(struct worker *w, struct pool *p, struct backend *b)
{
    if (!old_enough(w, p, b))
        return false;
    p->permits.owed--;
    evict(w, p, b, EVICTED_LATER);
    return true;
}

void pool_offer(struct worker *w, struct pool *p)
{
    if (atomic_load_explicit(&p->permits.coordination->hungry, memory_order_relaxed))
        tell(w, p, MESSAGE(COORDINATOR_IDLE, .term = p->permits.term));
}
