/* One queue, first in first out: each request enters it once and leaves it by being served, refused
 * or withdrawn. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include "runtime/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAITERS_MIN = 64, GATE_PATIENCE_MIN_US = 20000, GATE_PATIENCE_MAX_US = 500000 };

/* --- the ring --- */

static struct waiter *waiter_at(struct pool *p, uint64_t position)
{
    return &p->waiters[position & (p->waiters_size - 1)];
}

static void waiters_grow(struct pool *p)
{
    uint64_t size = MAX(p->waiters_size * 2, (uint64_t)WAITERS_MIN);
    struct waiter *ring = calloc(size, sizeof *ring);

    INVARIANT(ring != NULL);
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++)
        ring[at & (size - 1)] = *waiter_at(p, at);
    free(p->waiters);
    p->waiters = ring;
    p->waiters_size = size;
}

void pool_append_waiter(struct pool *p, struct waiter waiter)
{
    if (p->waiters_tail - p->waiters_head == p->waiters_size)
        waiters_grow(p);
    /* In order, though workers' clocks are not quite the same: it is searched for by that. */
    if (p->waiters_tail != p->waiters_head)
        waiter.since_us = MAX(waiter.since_us, waiter_at(p, p->waiters_tail - 1)->since_us);
    *waiter_at(p, p->waiters_tail++) = waiter;
    p->waiting++;
}

/* Without those who have gone. */
struct waiter *pool_first_waiter(struct pool *p)
{
    while (p->waiters_head != p->waiters_tail) {
        struct waiter *first = waiter_at(p, p->waiters_head);

        if (first->session != 0)
            return first;
        p->waiters_head++;
    }
    p->mixed_deadlines = false;
    return NULL;
}

static struct waiter waiters_take(struct pool *p)
{
    struct waiter first = *waiter_at(p, p->waiters_head++);

    p->waiting--;
    return first;
}

/* --- saying no --- */

void pool_trouble(char *out, size_t size, const char *format, ...)
{
    char details[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(details, sizeof details, format, arguments);
    va_end(arguments);
    snprintf(out, size,
             "Could not get a database connection from the pool. All servers may be busy or down. "
             "Error details: %s. Please try again later.",
             details);
}

void pool_refuse(struct worker *w, actor_id session, uint64_t ticket, const char *sqlstate,
                 const char *text)
{
    actor_tell(w, session,
               MESSAGE(POOL_REFUSED, .ticket = ticket, .sqlstate = bytes_of(sqlstate),
                       .text = bytes_of(text)));
}

void pool_refuse_at(struct worker *w, struct pool *p, uint64_t at, const char *sqlstate,
                    const char *text)
{
    struct waiter *waiter = waiter_at(p, at);

    pool_refuse(w, waiter->session, waiter->ticket, sqlstate, text);
    waiter->session = 0;
    p->waiting--;
}

void pool_refuse_all(struct worker *w, struct pool *p, const char *sqlstate, const char *text)
{
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        if (waiter_at(p, at)->session != 0)
            pool_refuse_at(w, p, at, sqlstate, text);
    }
}

/* Logins that wait for the server's parameters share the result: none of them could fare better. */
void pool_fail_waiters(struct worker *w, struct pool *p, const char *sqlstate, const char *text)
{
    bool one = true;

    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = waiter_at(p, at);

        if (waiter->session == 0 || (!waiter->login && !one))
            continue;
        if (!waiter->login)
            one = false;
        pool_refuse_at(w, p, at, sqlstate, text);
    }
}

void pool_expire(struct worker *w, struct pool *p)
{
    char text[256];

    pool_trouble(text, sizeof text,
                 "Timeout occurred while waiting free connection from pool (query_wait_timeout)");
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = waiter_at(p, at);

        if (waiter->session == 0)
            continue;
        if (waiter->deadline_us > w->now_us) {
            if (!p->mixed_deadlines)
                break;
            pool_want_alarm(w, p, waiter->deadline_us);
            continue;
        }
        log_warn("[%s@%s] phase=wait timeout after %" PRIu64 "ms, size=%u waiting=%u",
                 p->shared->user, p->shared->database, elapsed_us(w, waiter->since_us) / 1000,
                 pool_size_now(p), p->waiting);
        pool_refuse_at(w, p, at, "53300", text);
    }
}

/* --- serving --- */

static struct message *parameters_for(const struct pool *p, const struct waiter *waiter)
{
    return MESSAGE(POOL_PARAMETERS, .ticket = waiter->ticket,
                   .pairs = {p->parameters.start, p->parameters.len});
}

void pool_want_alarm(struct worker *w, struct pool *p, uint64_t at_us)
{
    if (p->alarm_us != 0 && p->alarm_us <= at_us)
        return;
    p->alarm_us = at_us;
    actor_alarm(w, actor_id_of(&p->actor), at_us, at_us);
}

/* How long one may stand at the gate before that is worth counting. */
static uint64_t gate_patience_us(const struct pool *p)
{
    uint64_t us = 2 * atomic_load_explicit(&p->shared->transaction_p99_us, memory_order_relaxed);

    return MIN(MAX(us, (uint64_t)GATE_PATIENCE_MIN_US), (uint64_t)GATE_PATIENCE_MAX_US);
}

static void count_served(struct worker *w, struct pool *p, const struct waiter *waiter,
                         const struct backend *b)
{
    p->served_us = w->now_us;
    p->scaling.served_by_return += b->uses > 1; /* this use included */
    if (waiter->gated && elapsed_us(w, waiter->since_us) > gate_patience_us(p))
        p->scaling.gate_exhausted++;
}

/* False: nothing can be done for the head now. */
static bool serve_head(struct worker *w, struct pool *p, const struct waiter *first)
{
    if (first->login) {
        if (!p->parameters_known)
            return false;
        struct waiter waiter = waiters_take(p);
        actor_tell(w, waiter.session, parameters_for(p, &waiter));
        return true;
    }
    struct backend *b = pool_next_usable(w, p, first->session);
    if (b == NULL)
        return false;
    struct waiter waiter = waiters_take(p);
    if (!pool_lease(w, p, b, waiter.session)) {
        pool_idle_push(p, b);
        return true;
    }
    count_served(w, p, &waiter, b);
    actor_tell(w, waiter.session,
               MESSAGE(POOL_LEASE, .ticket = waiter.ticket, .backend = actor_id_of(&b->actor),
                       .waited_us = elapsed_us(w, waiter.since_us)));
    return true;
}

void pool_dispatch(struct worker *w, struct pool *p)
{
    struct waiter *first;

    while (!p->paused && (first = pool_first_waiter(p)) != NULL) {
        if (!serve_head(w, p, first))
            break;
    }
    if (p->waiting == 0)
        p->hoping = false;
    if (p->waiting == 0 && p->draining)
        pool_end_idle(w, p, "graceful shutdown - releasing server connection");
    if (p->waiting > 0 || p->effective->min_pool_size > 0 || p->permits.wanted > 0)
        pool_grow(w, p);
    first = pool_first_waiter(p);
    if (first != NULL)
        pool_want_alarm(w, p, first->deadline_us);
}

/* --- requests --- */

static bool removed(struct worker *w, struct pool *p, const struct waiter *waiter)
{
    if (!p->removed)
        return false;
    pool_refuse(w, waiter->session, waiter->ticket, "53300", POOL_CLOSED);
    return true;
}

/* The whole wait has one deadline, whatever happens in between. */
static uint64_t deadline_of(struct worker *w, const struct pool *p, uint64_t given_us)
{
    return given_us != 0 ? given_us : w->now_us + p->effective->query_wait_timeout_ms * 1000;
}

/* Nobody waits but this one, which may not wait either: what is being opened for it counts. */
static void spare_the_impatient(struct worker *w, struct pool *p)
{
    struct waiter *last = waiter_at(p, p->waiters_tail - 1);

    if (last->deadline_us <= w->now_us && p->waiting <= p->count[BACKEND_LOGIN]) {
        last->deadline_us = w->now_us + p->effective->connect_timeout_ms * 1000;
        p->mixed_deadlines = true;
    }
}

/* Queue before dialling: a backend that comes up meanwhile must find this waiter. */
static void stand_in_line(struct worker *w, struct pool *p, struct waiter waiter)
{
    if (pool_shed(w, p, &waiter))
        return;
    pool_append_waiter(p, waiter);
    if (p->mixed_deadlines)
        pool_want_alarm(w, p, waiter.deadline_us);
    pool_dispatch(w, p);
    if (p->waiting == 0)
        return;
    if (p->effective->query_wait_timeout_ms == 0)
        spare_the_impatient(w, p);
    if (pool_size_counted(p) < p->effective->pool_size && p->count[BACKEND_LOGIN] >= pool_gate(p)) {
        waiter_at(p, p->waiters_tail - 1)->gated = true;
        p->scaling.gate_waits++;
    }
}

void pool_on_checkout(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_CHECKOUT want = message_get_POOL_CHECKOUT(m);
    struct waiter waiter = {.session = m->sender,
                            .ticket = want.ticket,
                            .deadline_us = deadline_of(w, p, want.deadline_us),
                            .since_us = w->now_us};

    if (removed(w, p, &waiter))
        return;
    /* Nobody waits and a backend is idle: the ordinary case, answered in the same breath. */
    if (LIKELY(p->waiting == 0 && !p->paused)) {
        struct backend *b = pool_next_usable(w, p, m->sender);

        if (b != NULL && pool_lease(w, p, b, m->sender)) {
            struct message answer = {0};
            struct msg_POOL_LEASE granted = {.ticket = want.ticket,
                                             .backend = actor_id_of(&b->actor)};

            message_put_POOL_LEASE(&answer, &granted);
            actor_reply(w, &p->actor, m, &answer);
            return;
        }
        if (b != NULL)
            pool_idle_push(p, b);
    }
    stand_in_line(w, p, waiter);
}

void pool_on_login(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_LOGIN want = message_get_POOL_LOGIN(m);
    struct waiter waiter = {.session = m->sender,
                            .ticket = want.ticket,
                            .deadline_us = deadline_of(w, p, want.deadline_us),
                            .since_us = w->now_us,
                            .login = true};

    if (removed(w, p, &waiter))
        return;
    if (p->parameters_known) {
        struct message *answer = parameters_for(p, &waiter);

        actor_reply(w, &p->actor, m, answer);
        message_free(answer);
        return;
    }
    stand_in_line(w, p, waiter);
}

/* The first of those who came at that time or later. */
static uint64_t position_since(struct pool *p, uint64_t since_us)
{
    uint64_t low = p->waiters_head;
    uint64_t high = p->waiters_tail;

    while (low != high) {
        uint64_t middle = low + (high - low) / 2;

        if (waiter_at(p, middle)->since_us < since_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* NULL: not there. It is looked for from where its time says, in both directions: thousands may
 * leave at once, and none of them shall walk the whole queue. */
static struct waiter *find_waiter(struct pool *p, actor_id session, uint64_t ticket,
                                  uint64_t since_us)
{
    uint64_t up = position_since(p, since_us);
    uint64_t down = up;

    while (up != p->waiters_tail || down != p->waiters_head) {
        struct waiter *above = up != p->waiters_tail ? waiter_at(p, up++) : NULL;
        struct waiter *below = down != p->waiters_head ? waiter_at(p, --down) : NULL;

        if (above != NULL && above->session == session && above->ticket == ticket)
            return above;
        if (below != NULL && below->session == session && below->ticket == ticket)
            return below;
    }
    return NULL;
}

void pool_on_withdraw(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_WITHDRAW off = message_get_POOL_WITHDRAW(m);
    struct waiter *waiter = find_waiter(p, m->sender, off.ticket, off.since_us);

    if (waiter != NULL) {
        waiter->session = 0;
        p->waiting--;
        actor_tell(w, m->sender, MESSAGE(POOL_WITHDRAWN, .ticket = off.ticket));
    }
    /* Not there: served or refused already, and that message is on its way. */
    if (p->permits.wanted > 0)
        pool_dispatch(w, p);
}
