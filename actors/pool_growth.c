/* When a connection is opened: for waiters who would wait longer than it takes, for the minimum,
 * in place of one that nears its end; so many at a time, slower while the server refuses. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    RATE_MIN_US = 100000, /* shorter measurements of returns tell nothing */
    RATE_OLD_US = 1000000,
    RETRY_MIN_US = 10000,
    RETRY_MAX_US = 1000000,
    FAILURES_QUICK = 3, /* in a row, before attempts come slower and one by one */
    REPLACEMENTS_MAX = 3,
    REPLACE_SPARE = 2, /* permits that must stay free */
};

uint32_t pool_gate(const struct pool *p)
{
    if (p->failures >= FAILURES_QUICK)
        return 1;
    return MIN(p->effective->scaling_max_parallel_creates, p->effective->max_concurrent_creates);
}

/* Backends that are sure to be usable soon. */
static uint32_t coming(const struct pool *p)
{
    return p->count[BACKEND_LOGIN] + p->count[BACKEND_CHECKING] + p->count[BACKEND_CLEANING];
}

static uint32_t usable(const struct pool *p)
{
    return pool_size_now(p) - p->count[BACKEND_CLOSING];
}

/* Of pool_size. What a predecessor still has is on its way here. */
static uint32_t taken(const struct pool *p)
{
    return pool_size_counted(p) + p->staying - p->staying_extra;
}

/* --- is it quicker to wait? --- */

uint64_t pool_return_gap_us(struct worker *w, struct pool *p)
{
    struct return_rate *r = &p->returns;
    uint64_t span = elapsed_us(w, r->mark_us);
    uint64_t count = r->count - r->mark_count;

    if (r->count == 0)
        return 0;
    if (span >= RATE_MIN_US) {
        uint64_t gap = count == 0 ? span : MAX(span / count, 1ull);

        r->gap_us = r->gap_us == 0 || span >= RATE_OLD_US ? gap : (r->gap_us + gap) / 2;
        r->mark_us = w->now_us;
        r->mark_count = r->count;
    }
    return MAX(r->gap_us, elapsed_us(w, r->last_us));
}

static uint64_t warm_threshold(const struct pool *p)
{
    uint64_t warm = (uint64_t)p->effective->pool_size * p->effective->scaling_warm_pool_ratio / 100;

    return MAX(warm, 1ull);
}

static bool below_warm_threshold(const struct pool *p)
{
    return usable(p) < warm_threshold(p);
}

/* What is being opened does not count. */
static bool is_warm(const struct pool *p)
{
    return usable(p) - p->count[BACKEND_LOGIN] >= warm_threshold(p);
}

/* Would the last waiter be served by returns before a new connection were there? With k waiters
 * beyond what is coming and a return each `gap`, its turn is k * gap away. scaling_fast_retries
 * bounds how many waiters may be left to returns. A wrong guess is noticed as soon as the returns
 * fail to come, not at the end of a fixed time. */
static bool returns_are_quicker(struct worker *w, struct pool *p)
{
    uint64_t k = p->waiting - coming(p);
    uint64_t gap = pool_return_gap_us(w, p);

    if (below_warm_threshold(p) || k > p->effective->scaling_fast_retries)
        return false;
    if (gap == 0 || p->connect_us == 0 || k * gap > p->connect_us)
        return false;
    p->hoping = true;
    pool_want_alarm(w, p, p->returns.last_us + p->connect_us / k + 1);
    return true;
}

/* --- opening --- */

static void dial(struct worker *w, struct pool *p, bool replacement)
{
    struct backend *b = backend_open(w, p->shared, actor_id_of(&p->actor), p->config, p->effective);

    /* Stamped now: what is begun before RECONNECT counts as old. */
    b->epoch = p->epoch;
    b->replacement = replacement;
    p->scaling.creations++;
    pool_backend_add(p, b);
    actor_launch(w, &b->actor);
}

static void dial_for_waiters(struct worker *w, struct pool *p)
{
    const struct waiter *first = pool_first_waiter(p); /* who gets it */

    if (!is_warm(p))
        p->warm_us = 0;
    else if (first != NULL)
        p->scaling.above_warm += first->since_us > p->warm_us;
    p->scaling.hope_in_vain += p->hoping;
    p->hoping = false;
    dial(w, p, false);
}

enum cause { FOR_NOBODY, FOR_WAITERS, FOR_MINIMUM };

/* Whom would one more connection serve? */
static enum cause cause_to_open(struct worker *w, struct pool *p)
{
    if (p->removed || p->paused || taken(p) >= p->effective->pool_size)
        return FOR_NOBODY;
    /* What comes back to a pool that drains is closed. */
    if (p->waiting > coming(p) && (p->draining || !returns_are_quicker(w, p)))
        return FOR_WAITERS;
    if (p->draining || atomic_load_explicit(&app.handing_over, memory_order_relaxed))
        return FOR_NOBODY;
    return usable(p) + p->staying < p->effective->min_pool_size ? FOR_MINIMUM : FOR_NOBODY;
}

/* How many could be begun for waiters at once. */
static uint32_t room(const struct pool *p)
{
    return MIN(MIN(p->waiting - coming(p), p->effective->pool_size - taken(p)),
               pool_gate(p) - p->count[BACKEND_LOGIN]);
}

void pool_grow(struct worker *w, struct pool *p)
{
    enum cause cause;

    while ((cause = cause_to_open(w, p)) != FOR_NOBODY) {
        if (p->count[BACKEND_LOGIN] >= pool_gate(p))
            break;
        if (w->now_us < p->retry_us) {
            pool_want_alarm(w, p, p->retry_us);
            break;
        }
        if (cause == FOR_WAITERS) {
            if (!pool_permit_take(w, p, room(p))) {
                if (pool_expire_blocked(w, p))
                    continue;
                return;
            }
            dial_for_waiters(w, p);
        } else {
            if (!pool_permit_take_now(w, p, 0))
                break;
            dial(w, p, false);
        }
    }
    pool_permits_unwant(w, p);
}

void pool_replace_early(struct worker *w, struct pool *p, struct backend *b)
{
    if (b->replaced || p->paused || p->draining || p->removed || p->waiting > 0 ||
        w->now_us < p->retry_us || p->replaced >= REPLACEMENTS_MAX ||
        pool_size_counted(p) > p->effective->pool_size ||
        p->idle_count * 100 / MAX(pool_size_now(p), 1u) >= 25 ||
        p->count[BACKEND_LOGIN] >= pool_gate(p) || !pool_permit_take_now(w, p, REPLACE_SPARE))
        return;
    b->replaced = true;
    p->replaced++;
    p->scaling.replacements++;
    dial(w, p, true);
}

/* --- what becomes of it --- */

static void adopt_parameters(struct pool *p, const struct backend *b)
{
    packer_free(&p->parameters);
    packer_init(&p->parameters);
    pack_raw(&p->parameters, b->parameters.start, b->parameters.len);
    p->parameters_known = true;
}

static void learn_connect_time(struct worker *w, struct pool *p, const struct backend *b)
{
    uint64_t us = MAX(elapsed_us(w, b->created_us), 1ull);

    time_record(w, p->shared, TIME_CONNECT, us);
    p->connect_us = p->connect_us == 0 ? us : (p->connect_us * 3 + us) / 4;
}

void pool_on_ready(struct worker *w, struct pool *p, struct message *m)
{
    struct backend *b = backend_find(message_get_POOL_READY(m).backend);

    INVARIANT(b != NULL);
    if (b->state == BACKEND_CLOSING) /* it was told to, and will */
        return;
    if (b->state == BACKEND_LOGIN) {
        p->failures = 0;
        p->retry_us = 0;
        learn_connect_time(w, p, b);
        adopt_parameters(p, b);
    }
    pool_make_idle(w, p, b);
    if (p->warm_us == 0 && is_warm(p))
        p->warm_us = w->now_us;
    pool_dispatch(w, p);
    if (p->permits.coordinator != 0 && b->state == BACKEND_IDLE)
        pool_offer(w, p);
}

/* What the client is told (spec: pool, errors). */
static void failure_text(const struct msg_POOL_FAILED *failed, char *out, size_t size)
{
    int len = (int)failed->text.len;
    const char *why = (const char *)failed->text.at;

    switch ((enum backend_failure)failed->kind) {
    case FAILURE_PARAMETER: snprintf(out, size, "%.*s", len, why); return;
    case FAILURE_RESOURCES:
        snprintf(out, size,
                 "Connection pooler local resource exhausted: %.*s. Please try again later.", len,
                 why);
        return;
    case FAILURE_CONNECT:
    case FAILURE_LOGIN:
    case FAILURE_EARLY: break;
    }
    pool_trouble(out, size,
                 "Error occurred while creating a new connection to postgresql "
                 "(postgresql_login_error): %.*s",
                 len, why);
}

/* After a few failures in a row the next attempts come slower, 10 ms doubling to 1 s, so that a
 * server that is down is not stormed and still noticed soon when it is back. A tenth of chance
 * keeps pools from trying all at once. */
static void back_off(struct worker *w, struct pool *p)
{
    uint32_t doublings = p->failures > FAILURES_QUICK ? p->failures - FAILURES_QUICK : 0;
    uint64_t pause_us = MIN((uint64_t)RETRY_MIN_US << MIN(doublings, 7u), (uint64_t)RETRY_MAX_US);

    p->retry_us = w->now_us + pause_us - random_u64(w) % (pause_us / 10);
}

/* PostgreSQL has as many connections as it takes, and there are others in this pool: one of them,
 * or a later attempt, will serve whoever waits. */
static bool may_wait_on(const struct pool *p, const struct msg_POOL_FAILED *failed)
{
    return failed->kind == FAILURE_LOGIN && bytes_equal(failed->sqlstate, bytes_of("53300")) &&
           usable(p) > p->count[BACKEND_LOGIN];
}

/* It was begun, for the minimum, before any client had shown the proof that is passed on. Since
 * then one has, and waits: the next attempt can do what this one could not. */
static bool came_too_early(const struct pool *p, const struct msg_POOL_FAILED *failed)
{
    if (failed->kind != FAILURE_EARLY)
        return false;
    pthread_mutex_lock(&p->shared->lock);
    bool proven = p->shared->material != MATERIAL_PENDING;
    pthread_mutex_unlock(&p->shared->lock);
    return proven;
}

void pool_on_failed(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_FAILED failed = message_get_POOL_FAILED(m);
    struct backend *b = backend_find(failed.backend);
    char sqlstate[6];
    char text[600];

    INVARIANT(b != NULL && (b->state == BACKEND_LOGIN || b->state == BACKEND_CLOSING));
    bool nobody_waits_for_it = b->replacement;
    pool_backend_drop(w, p, b);
    if (came_too_early(p, &failed)) {
        p->failures = 0;
        p->retry_us = 0;
        pool_dispatch(w, p);
        return;
    }
    p->failures++;
    back_off(w, p);
    failure_text(&failed, text, sizeof text);
    snprintf(sqlstate, sizeof sqlstate, "%.*s", (int)failed.sqlstate.len,
             (const char *)failed.sqlstate.at);
    if (!nobody_waits_for_it && !may_wait_on(p, &failed)) {
        if (p->waiting > 0)
            log_warn("[%s@%s] phase=create failed %u times in a row, size=%u waiting=%u",
                     p->shared->user, p->shared->database, p->failures, pool_size_now(p),
                     p->waiting);
        pool_fail_waiters(w, p, sqlstate, text);
    }
    pool_dispatch(w, p);
}
