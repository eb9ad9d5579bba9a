/* Backends one by one: their states, whether one may still be used, the two ends of a lease. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include <errno.h>

enum { LOOK_AFTER_US = 2000, OVERTIME_MIN_US = 60000000 };

#define TO(s) (1u << BACKEND_##s)
static const uint32_t may_go[BACKEND_STATE_COUNT] = {
    [BACKEND_LOGIN] = TO(IDLE) | TO(CLOSING),
    [BACKEND_IDLE] = TO(LEASED) | TO(CHECKING) | TO(CLEANING) | TO(CLOSING),
    [BACKEND_LEASED] = TO(IDLE) | TO(CLEANING) | TO(CLOSING),
    [BACKEND_CLEANING] = TO(IDLE) | TO(CLOSING),
    [BACKEND_CHECKING] = TO(IDLE) | TO(CLOSING),
    [BACKEND_CLOSING] = 0,
};

/* It has come back and is kept, or is gone: like any other from now on. */
static void count_as_usual(struct pool *p, struct backend *b)
{
    p->extra--;
    b->extra = false;
}

void pool_backend_go(struct pool *p, struct backend *b, enum backend_state to)
{
    INVARIANT(may_go[b->state] & (1u << to));
    p->count[b->state]--;
    p->count[to]++;
    b->state = (uint8_t)to;
    if (UNLIKELY(b->extra && to == BACKEND_IDLE))
        count_as_usual(p, b);
}

void pool_backend_add(struct pool *p, struct backend *b)
{
    b->pool_next = p->backends;
    b->pool_previous = NULL;
    if (p->backends != NULL)
        p->backends->pool_previous = b;
    p->backends = b;
    p->count[BACKEND_LOGIN]++;
    b->state = BACKEND_LOGIN;
}

void pool_backend_drop(struct worker *w, struct pool *p, struct backend *b)
{
    p->count[b->state]--;
    p->replaced -= b->replaced;
    if (b->extra)
        count_as_usual(p, b);
    if (b->pool_previous != NULL)
        b->pool_previous->pool_next = b->pool_next;
    else
        p->backends = b->pool_next;
    if (b->pool_next != NULL)
        b->pool_next->pool_previous = b->pool_previous;
    if (p->permits.coordinator != 0)
        pool_permit_release(w, p, pool_last_debt(p, b));
    actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_RELEASED);
}

void pool_backend_end(struct worker *w, struct pool *p, struct backend *b, const char *reason)
{
    pool_backend_go(p, b, BACKEND_CLOSING);
    actor_tell(
        w, actor_id_of(&b->actor),
        MESSAGE(BACKEND_CLOSE, .reason = bytes_of(reason), .await = p->permits.coordinator != 0));
}

/* Why an idle backend must not be used any more; NULL when it may. */
static const char *outdated(struct worker *w, const struct pool *p, const struct backend *b)
{
    /* A new one was opened for somebody who waited already. */
    if (p->draining && b->uses > 0)
        return "graceful shutdown - releasing server connection";
    if (p->removed)
        return "pool removed";
    if (b->hangup)
        return "server closed the connection";
    if (b->epoch != p->epoch)
        return "reconnect epoch outdated";
    uint64_t age = elapsed_us(w, b->created_us);
    /* Under pressure an old backend serves on, but not for ever; and a short lifetime must not have
     * clients wait for one connection after another. */
    uint64_t limit = p->waiting > 0
                         ? b->lifetime_us + MAX(b->lifetime_us, (uint64_t)OVERTIME_MIN_US)
                         : b->lifetime_us;
    if (b->lifetime_us != 0 && age > limit)
        return "lifetime exceeded";
    return NULL;
}

bool pool_lease(struct worker *w, struct pool *p, struct backend *b, actor_id to)
{
    struct actor *session = actor_find(to);

    if (session == NULL)
        return false;
    pool_backend_go(p, b, BACKEND_LEASED);
    b->leased_since_us = w->now_us;
    b->uses++;
    conn_give(&b->conn, session);
    if (UNLIKELY(w->now_us >= b->replace_at_us))
        pool_replace_early(w, p, b);
    return true;
}

/* The server's last words, or its end, lie in the socket a moment before the watcher hears of the
 * hang-up. After a longer rest a look is worth its system call: a query that was sent to a dead
 * backend cannot be sent again. */
static bool died_meanwhile(struct worker *w, const struct backend *b)
{
    if (elapsed_us(w, b->idle_since_us) < LOOK_AFTER_US)
        return false;
    int seen = conn_peek(&b->conn);
    return seen == 'E' || (seen < 0 && seen != -EAGAIN);
}

struct backend *pool_next_usable(struct worker *w, struct pool *p, actor_id taker)
{
    struct backend *b;

    while ((b = pool_idle_pop_for(p, taker)) != NULL) {
        const char *reason = outdated(w, p, b);
        uint64_t check_us = p->effective->server_idle_check_timeout_ms * 1000;

        if (reason == NULL && died_meanwhile(w, b))
            reason = "server closed the connection";
        if (reason != NULL) {
            pool_backend_end(w, p, b, reason);
        } else if (check_us != 0 && b->uses > 0 && elapsed_us(w, b->idle_since_us) > check_us) {
            pool_backend_go(p, b, BACKEND_CHECKING);
            actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_CHECK);
        } else if (UNLIKELY(pool_is_anothers(b, taker))) {
            if (p->count[BACKEND_CLEANING] >= MAX(p->waiting, 1u)) {
                pool_idle_push(p, b); /* as many as are wanted are on their way */
                return NULL;
            }
            pool_backend_go(p, b, BACKEND_CLEANING);
            actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_CLEAN);
        } else {
            return b;
        }
    }
    return NULL;
}

uint32_t pool_size_kept(const struct pool *p)
{
    uint32_t kept = pool_size_counted(p) - p->count[BACKEND_CLOSING];

    if (LIKELY(p->extra == 0))
        return kept;
    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next)
        kept += b->extra && b->state == BACKEND_CLOSING;
    return kept;
}

/* With this one there are more than there may be, as after a reload. */
static bool is_surplus(const struct pool *p, const struct backend *b)
{
    return pool_size_kept(p) + b->extra > p->effective->pool_size + p->replaced;
}

void pool_make_idle(struct worker *w, struct pool *p, struct backend *b)
{
    const char *reason = outdated(w, p, b);

    if (reason == NULL && is_surplus(p, b))
        reason = "pool size reduced";
    if (reason != NULL) {
        pool_backend_end(w, p, b, reason);
        return;
    }
    if (UNLIKELY(p->permits.owed > 0) && pool_pay_debt(w, p, b))
        return;
    INVARIANT(ledger_empty(&b->ledger) && b->status == 'I' && (b->dirt & ~DIRT_LAZY) == 0 &&
              !b->broken);
    pool_backend_go(p, b, BACKEND_IDLE);
    b->idle_since_us = w->now_us;
    pool_idle_push(p, b);
}

void pool_on_return(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_RETURN back = message_get_POOL_RETURN(m);
    struct backend *b = backend_find(back.backend);

    INVARIANT(b != NULL && b->state == BACKEND_LEASED);
    p->returns.count++;
    p->returns.last_us = w->now_us;
    if (back.how == LEASE_BROKEN) {
        pool_backend_end(w, p, b, "bad connection");
    } else if (back.how == LEASE_DIRTY) {
        pool_backend_go(p, b, BACKEND_CLEANING);
        actor_tell_kind(w, back.backend, MSG_BACKEND_CLEAN);
    } else {
        pool_make_idle(w, p, b);
    }
    if (p->waiting > 0)
        pool_dispatch(w, p);
    if (UNLIKELY(p->permits.coordinator != 0) && b->state == BACKEND_IDLE)
        pool_offer(w, p);
}

void pool_on_gone(struct worker *w, struct pool *p, struct message *m)
{
    struct backend *b = backend_find(message_get_POOL_GONE(m).backend);

    INVARIANT(b != NULL);
    pool_idle_remove(p, b);
    pool_backend_drop(w, p, b);
    pool_dispatch(w, p);
}

void pool_on_hangup(struct worker *w, struct pool *p, struct message *m)
{
    struct backend *b = backend_find(message_get_BACKEND_HANGUP(m).backend);

    if (b == NULL)
        return;
    b->hangup = true;
    if (b->state != BACKEND_IDLE) /* whoever holds it sees for itself, or it is not taken back */
        return;
    pool_idle_remove(p, b);
    pool_backend_end(w, p, b, "server closed the connection");
    pool_dispatch(w, p);
}
