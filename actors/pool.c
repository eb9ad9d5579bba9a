#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool.h"

#include "runtime/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { IDLE_SIZE_MIN = 16, WAITERS_MIN = 64, LOOK_AFTER_US = 2000 };

_Atomic uint32_t pool_trim_quota;

/* --- the queue --- */

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

static void waiters_append(struct pool *p, struct waiter waiter)
{
    if (p->waiters_tail - p->waiters_head == p->waiters_size)
        waiters_grow(p);
    *waiter_at(p, p->waiters_tail++) = waiter;
    p->waiting++;
}

/* The longest waiter, without those who have gone. */
static struct waiter *waiters_first(struct pool *p)
{
    while (p->waiters_head != p->waiters_tail) {
        struct waiter *first = waiter_at(p, p->waiters_head);

        if (first->session != 0)
            return first;
        p->waiters_head++;
    }
    return NULL;
}

static struct waiter waiters_take(struct pool *p)
{
    struct waiter first = *waiter_at(p, p->waiters_head++);

    p->waiting--;
    return first;
}

/* --- idle backends --- */

static void idle_push(struct pool *p, struct backend *b)
{
    if (p->idle_count == p->idle_size) {
        uint32_t size = MAX(p->idle_size * 2, (uint32_t)IDLE_SIZE_MIN);
        struct backend **ring = calloc(size, sizeof *ring);

        INVARIANT(ring != NULL);
        for (uint32_t i = 0; i < p->idle_count; i++)
            ring[i] = p->idle[(p->idle_head + i) & (p->idle_size - 1)];
        free(p->idle);
        p->idle = ring;
        p->idle_head = 0;
        p->idle_size = size;
    }
    p->idle[(p->idle_head + p->idle_count++) & (p->idle_size - 1)] = b;
}

static struct backend *idle_pop(struct pool *p)
{
    if (p->idle_count == 0)
        return NULL;
    p->idle_count--;
    if (!p->effective->server_round_robin)
        return p->idle[(p->idle_head + p->idle_count) & (p->idle_size - 1)];
    return p->idle[p->idle_head++ & (p->idle_size - 1)];
}

static bool idle_remove(struct pool *p, const struct backend *b)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < p->idle_count; i++) {
        struct backend *at = p->idle[(p->idle_head + i) & (p->idle_size - 1)];

        if (at != b)
            p->idle[(p->idle_head + kept++) & (p->idle_size - 1)] = at;
    }
    bool found = kept != p->idle_count;
    p->idle_count = kept;
    return found;
}

/* --- states --- */

#define TO(s) (1u << BACKEND_##s)
static const uint32_t may_go[BACKEND_STATE_COUNT] = {
    [BACKEND_LOGIN] = TO(IDLE) | TO(CLOSING),
    [BACKEND_IDLE] = TO(LEASED) | TO(CHECKING) | TO(CLEANING) | TO(CLOSING),
    [BACKEND_LEASED] = TO(IDLE) | TO(CLEANING) | TO(CLOSING),
    [BACKEND_CLEANING] = TO(IDLE) | TO(CLOSING),
    [BACKEND_CHECKING] = TO(IDLE) | TO(CLOSING),
    [BACKEND_CLOSING] = 0,
};

static void backend_go(struct pool *p, struct backend *b, enum backend_state to)
{
    INVARIANT(may_go[b->state] & (1u << to));
    p->count[b->state]--;
    p->count[to]++;
    b->state = (uint8_t)to;
}

static void backend_add(struct pool *p, struct backend *b)
{
    b->pool_next = p->backends;
    b->pool_previous = NULL;
    if (p->backends != NULL)
        p->backends->pool_previous = b;
    p->backends = b;
    p->count[BACKEND_LOGIN]++;
    b->state = BACKEND_LOGIN;
}

/* The pool no longer knows it: its memory is its own to give back. */
static void backend_drop(struct worker *w, struct pool *p, struct backend *b)
{
    p->count[b->state]--;
    if (b->pool_previous != NULL)
        b->pool_previous->pool_next = b->pool_next;
    else
        p->backends = b->pool_next;
    if (b->pool_next != NULL)
        b->pool_next->pool_previous = b->pool_previous;
    actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_RELEASED);
}

static void backend_end(struct worker *w, struct pool *p, struct backend *b, const char *reason)
{
    backend_go(p, b, BACKEND_CLOSING);
    actor_tell(w, actor_id_of(&b->actor), MESSAGE(BACKEND_CLOSE, .reason = bytes_of(reason)));
}

static bool server_changed(const struct effective *a, const struct effective *b);

/* Why an idle backend must not be used any more; NULL when it may. */
static const char *outdated(struct worker *w, const struct pool *p, const struct backend *b)
{
    if (p->draining)
        return "graceful shutdown - releasing server connection";
    if (p->removed)
        return "pool removed";
    if (b->hangup)
        return "server closed the connection";
    if (b->epoch != p->epoch)
        return "reconnect epoch outdated";
    uint64_t age = elapsed_us(w, b->created_us);
    /* Under pressure an old backend serves on, but not for ever. */
    uint64_t limit = p->waiting > 0 ? b->lifetime_us * 2 : b->lifetime_us;
    if (b->lifetime_us != 0 && age > limit)
        return "lifetime exceeded";
    return NULL;
}

/* --- serving --- */

static void refuse(struct worker *w, const struct waiter *waiter, const char *sqlstate,
                   const char *text)
{
    actor_tell(w, waiter->session,
               MESSAGE(POOL_REFUSED, .ticket = waiter->ticket, .sqlstate = bytes_of(sqlstate),
                       .text = bytes_of(text)));
}

static void tell_parameters(struct worker *w, const struct pool *p, const struct waiter *waiter)
{
    actor_tell(w, waiter->session,
               MESSAGE(POOL_PARAMETERS, .ticket = waiter->ticket,
                       .pairs = {p->parameters.start, p->parameters.len}));
}

/* Binds the backend to the session. False: the session is gone. */
static bool lease(struct worker *w, struct pool *p, struct backend *b, actor_id to)
{
    struct actor *session = actor_find(to);

    if (session == NULL)
        return false;
    backend_go(p, b, BACKEND_LEASED);
    b->leased_since_us = w->now_us;
    b->uses++;
    conn_give(&b->conn, session);
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

/* Does it hold what only another client may find? */
static bool is_anothers(const struct backend *b, actor_id taker)
{
    return (b->dirt & DIRT_LAZY) != 0 && b->temp_owner != taker;
}

/* The next idle one, preferring those that can be handed to `taker` as they are. */
static struct backend *idle_pop_for(struct pool *p, actor_id taker)
{
    struct backend *b = idle_pop(p);

    if (LIKELY(b == NULL || !is_anothers(b, taker)))
        return b;
    for (uint32_t i = p->idle_count; i-- > 0;) {
        struct backend *other = p->idle[(p->idle_head + i) & (p->idle_size - 1)];

        if (is_anothers(other, taker))
            continue;
        idle_remove(p, other);
        idle_push(p, b);
        return other;
    }
    return b;
}

/* The next idle backend that may be handed to `taker` now. Those that must be looked at or cleaned
 * first are sent to be, and come back as ready. */
static struct backend *next_usable(struct worker *w, struct pool *p, actor_id taker)
{
    struct backend *b;

    while ((b = idle_pop_for(p, taker)) != NULL) {
        const char *reason = outdated(w, p, b);
        uint64_t check_us = p->effective->server_idle_check_timeout_ms * 1000;

        if (reason == NULL && died_meanwhile(w, b))
            reason = "server closed the connection";
        if (reason != NULL) {
            backend_end(w, p, b, reason);
        } else if (check_us != 0 && b->uses > 0 && elapsed_us(w, b->idle_since_us) > check_us) {
            backend_go(p, b, BACKEND_CHECKING);
            actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_CHECK);
        } else if (UNLIKELY(is_anothers(b, taker))) {
            if (p->count[BACKEND_CLEANING] >= MAX(p->waiting, 1u)) {
                idle_push(p, b); /* as many as are wanted are on their way */
                return NULL;
            }
            backend_go(p, b, BACKEND_CLEANING);
            actor_tell_kind(w, actor_id_of(&b->actor), MSG_BACKEND_CLEAN);
        } else {
            return b;
        }
    }
    return NULL;
}

static void dial(struct worker *w, struct pool *p)
{
    struct backend *b = backend_open(w, p->shared, actor_id_of(&p->actor), p->config, p->effective);

    b->epoch = p->epoch;
    p->creations++;
    backend_add(p, b);
    actor_launch(w, &b->actor);
}

static void want_alarm(struct worker *w, struct pool *p, uint64_t at_us)
{
    if (p->alarm_us != 0 && p->alarm_us <= at_us)
        return;
    p->alarm_us = at_us;
    actor_alarm(w, actor_id_of(&p->actor), at_us, at_us);
}

/* Opens what the queue asks for, within the pool's size and the gate on connects in flight. */
static void grow(struct worker *w, struct pool *p)
{
    uint32_t gate = MIN(p->effective->scaling_max_parallel_creates,
                        p->effective->max_concurrent_creates);
    uint32_t minimum = p->paused ? 0 : p->effective->min_pool_size;

    if (p->draining || p->removed)
        return;
    for (;;) {
        uint32_t coming = p->count[BACKEND_LOGIN] + p->count[BACKEND_CHECKING] +
                          p->count[BACKEND_CLEANING];
        uint32_t usable = pool_size_now(p) - p->count[BACKEND_CLOSING];
        bool wanted = (p->waiting > coming && !p->paused) || usable < minimum;

        if (!wanted || p->count[BACKEND_LOGIN] >= gate ||
            pool_size_now(p) >= p->effective->pool_size)
            return;
        if (w->now_us < p->retry_us) {
            want_alarm(w, p, p->retry_us);
            return;
        }
        dial(w, p);
    }
}

/* Every event ends here: idle backends to the longest waiters, then new ones for the rest. */
static void dispatch(struct worker *w, struct pool *p)
{
    struct waiter *first;

    while (!p->paused && (first = waiters_first(p)) != NULL) {
        if (first->login && p->parameters_known) {
            struct waiter waiter = waiters_take(p);
            tell_parameters(w, p, &waiter);
            continue;
        }
        if (first->login)
            break;
        struct backend *b = next_usable(w, p, first->session);
        if (b == NULL)
            break;
        struct waiter waiter = waiters_take(p);
        if (!lease(w, p, b, waiter.session)) {
            idle_push(p, b);
            continue;
        }
        actor_tell(w, waiter.session,
                   MESSAGE(POOL_LEASE, .ticket = waiter.ticket, .backend = actor_id_of(&b->actor),
                           .waited_us = elapsed_us(w, waiter.since_us)));
    }
    if (p->waiting > 0 || p->effective->min_pool_size > 0)
        grow(w, p);
    first = waiters_first(p);
    if (first != NULL)
        want_alarm(w, p, first->deadline_us);
}

/* --- handlers --- */

static bool removed(struct worker *w, struct pool *p, const struct waiter *waiter)
{
    if (!p->removed)
        return false;
    refuse(w, waiter, "3D000", "Pool has been closed");
    return true;
}

/* The whole wait has one deadline, whatever happens in between. */
static uint64_t deadline_of(struct worker *w, const struct pool *p, uint64_t given_us)
{
    return given_us != 0 ? given_us : w->now_us + p->effective->query_wait_timeout_ms * 1000;
}

static void on_checkout(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_CHECKOUT want = message_get_POOL_CHECKOUT(m);
    struct waiter waiter = {m->sender, want.ticket, deadline_of(w, p, want.deadline_us), w->now_us,
                            false};

    if (removed(w, p, &waiter))
        return;
    /* Nobody waits and a backend is idle: the ordinary case, answered in the same breath. */
    if (LIKELY(p->waiting == 0 && !p->paused)) {
        struct backend *b = next_usable(w, p, m->sender);

        if (b != NULL && lease(w, p, b, m->sender)) {
            struct message answer = {0};
            struct msg_POOL_LEASE granted = {.ticket = want.ticket,
                                             .backend = actor_id_of(&b->actor)};

            message_put_POOL_LEASE(&answer, &granted);
            actor_reply(w, &p->actor, m, &answer);
            return;
        }
        if (b != NULL)
            idle_push(p, b);
    }
    /* Queue before dialling: a backend that comes up meanwhile must find this waiter. */
    waiters_append(p, waiter);
    dispatch(w, p);
}

static void on_login(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_LOGIN want = message_get_POOL_LOGIN(m);
    struct waiter waiter = {m->sender, want.ticket, deadline_of(w, p, want.deadline_us), w->now_us,
                            true};

    if (removed(w, p, &waiter))
        return;
    if (p->parameters_known) {
        tell_parameters(w, p, &waiter);
        return;
    }
    waiters_append(p, waiter);
    dispatch(w, p);
}

static void on_withdraw(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_WITHDRAW off = message_get_POOL_WITHDRAW(m);

    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        struct waiter *waiter = waiter_at(p, at);

        if (waiter->session != m->sender || waiter->ticket != off.ticket)
            continue;
        waiter->session = 0;
        p->waiting--;
        actor_tell(w, m->sender, MESSAGE(POOL_WITHDRAWN, .ticket = off.ticket));
        break;
    }
    /* Not there: served or refused already, and that message is on its way. */
}

static void make_idle(struct worker *w, struct pool *p, struct backend *b)
{
    const char *reason = outdated(w, p, b);

    if (reason == NULL && pool_size_now(p) - p->count[BACKEND_CLOSING] > p->effective->pool_size)
        reason = "pool size reduced";
    if (reason != NULL) {
        backend_end(w, p, b, reason);
        return;
    }
    INVARIANT(ledger_empty(&b->ledger) && b->status == 'I' && (b->dirt & ~DIRT_LAZY) == 0 &&
              !b->broken);
    backend_go(p, b, BACKEND_IDLE);
    b->idle_since_us = w->now_us;
    idle_push(p, b);
}

static void on_return(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_RETURN back = message_get_POOL_RETURN(m);
    struct backend *b = backend_find(back.backend);

    INVARIANT(b != NULL && b->state == BACKEND_LEASED);
    if (back.how == LEASE_BROKEN) {
        backend_end(w, p, b, "bad connection");
    } else if (back.how == LEASE_DIRTY) {
        backend_go(p, b, BACKEND_CLEANING);
        actor_tell_kind(w, back.backend, MSG_BACKEND_CLEAN);
    } else {
        make_idle(w, p, b);
    }
    if (p->waiting > 0)
        dispatch(w, p);
}

static void adopt_parameters(struct pool *p, const struct backend *b)
{
    packer_free(&p->parameters);
    packer_init(&p->parameters);
    pack_raw(&p->parameters, b->parameters.start, b->parameters.len);
    p->parameters_known = true;
}

static void on_ready(struct worker *w, struct pool *p, struct message *m)
{
    struct backend *b = backend_find(message_get_POOL_READY(m).backend);

    INVARIANT(b != NULL);
    if (b->state == BACKEND_CLOSING) /* it was told to, and will */
        return;
    if (b->state == BACKEND_LOGIN) {
        p->failures = 0;
        p->retry_us = 0;
        time_record(w, p->shared, TIME_CONNECT, elapsed_us(w, b->created_us));
        adopt_parameters(p, b);
    }
    make_idle(w, p, b);
    dispatch(w, p);
}

/* What the client is told (spec: pool, errors). */
static void failure_text(const struct pool *p, const struct msg_POOL_FAILED *failed, char *out,
                         size_t size)
{
    const char *shape = failed->kind == FAILURE_RESOURCES
                            ? "Connection pooler local resource exhausted: %.*s. "
                              "Please try again later."
                            : "Could not get a database connection from the pool. All servers may "
                              "be busy or down. Error details: Error occurred while creating a new "
                              "connection to postgresql (postgresql_login_error): %.*s. "
                              "Please try again later.";

    (void)p;
    if (failed->kind == FAILURE_PARAMETER)
        snprintf(out, size, "%.*s", (int)failed->text.len, (const char *)failed->text.at);
    else
        snprintf(out, size, shape, (int)failed->text.len, (const char *)failed->text.at);
}

/* A failed creation fails the longest waiter; logins that wait for the server's parameters share
 * the result, since none of them could fare better. */
static void fail_waiters(struct worker *w, struct pool *p, const char *sqlstate, const char *text)
{
    bool one = true;

    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        struct waiter *waiter = waiter_at(p, at);

        if (waiter->session == 0 || (!waiter->login && !one))
            continue;
        if (!waiter->login)
            one = false;
        refuse(w, waiter, sqlstate, text);
        waiter->session = 0;
        p->waiting--;
    }
}

static void on_failed(struct worker *w, struct pool *p, struct message *m)
{
    struct msg_POOL_FAILED failed = message_get_POOL_FAILED(m);
    struct backend *b = backend_find(failed.backend);
    char text[512];

    INVARIANT(b != NULL && (b->state == BACKEND_LOGIN || b->state == BACKEND_CLOSING));
    backend_drop(w, p, b);
    failure_text(p, &failed, text, sizeof text);
    snprintf(p->last_error, sizeof p->last_error, "%.*s", (int)failed.text.len,
             (const char *)failed.text.at);
    snprintf(p->last_sqlstate, sizeof p->last_sqlstate, "%.*s", (int)failed.sqlstate.len,
             (const char *)failed.sqlstate.at);
    p->failures++;
    /* After a few failures in a row the next attempts come slower: 10 ms doubling to 1 s, so that
     * a server that is down is not stormed and still noticed soon when it is back. */
    uint64_t pause_us = 10000ull << MIN(p->failures > 3 ? p->failures - 3 : 0u, 7u);
    p->retry_us = w->now_us + MIN(pause_us, (uint64_t)1000000);
    fail_waiters(w, p, p->last_sqlstate, text);
    dispatch(w, p);
}

static void maybe_end(struct pool *p)
{
    if (!p->removed || p->backends != NULL || p->waiting > 0)
        return;
    actor_exit(&p->actor);
    free(p->idle);
    free(p->waiters);
    packer_free(&p->parameters);
    config_unref(p->config);
    p->idle = NULL;
    p->waiters = NULL;
}

static void on_gone(struct worker *w, struct pool *p, struct message *m)
{
    struct backend *b = backend_find(message_get_POOL_GONE(m).backend);

    INVARIANT(b != NULL);
    idle_remove(p, b);
    backend_drop(w, p, b);
    dispatch(w, p);
}

static void on_hangup(struct worker *w, struct pool *p, struct message *m)
{
    struct backend *b = backend_find(message_get_BACKEND_HANGUP(m).backend);

    if (b == NULL)
        return;
    b->hangup = true;
    if (b->state != BACKEND_IDLE) /* whoever holds it sees for itself, or it is not taken back */
        return;
    idle_remove(p, b);
    backend_end(w, p, b, "server closed the connection");
    dispatch(w, p);
}

static void on_alarm(struct worker *w, struct pool *p, struct message *m)
{
    char text[256];

    if (m->alarm.token == p->alarm_us)
        p->alarm_us = 0;
    snprintf(text, sizeof text,
             "Could not get a database connection from the pool. All servers may be busy or down. "
             "Error details: Timeout occurred while waiting free connection from pool "
             "(query_wait_timeout). Please try again later.");
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        struct waiter *waiter = waiter_at(p, at);

        if (waiter->session == 0)
            continue;
        if (waiter->deadline_us > w->now_us)
            break; /* the deadlines behind it are later, but for those of a changed setting */
        log_warn("[%s@%s] phase=wait timeout after %" PRIu64 "ms, size=%u waiting=%u",
                 p->shared->user, p->shared->database, elapsed_us(w, waiter->since_us) / 1000,
                 pool_size_now(p), p->waiting);
        refuse(w, waiter, "53300", text);
        waiter->session = 0;
        p->waiting--;
    }
    dispatch(w, p);
}

/* --- upkeep --- */

static bool take_quota(void)
{
    uint32_t left = atomic_load(&pool_trim_quota);

    while (left > 0 && left != UINT32_MAX) {
        if (atomic_compare_exchange_weak(&pool_trim_quota, &left, left - 1))
            return true;
    }
    return left == UINT32_MAX;
}

static const char *expired(struct worker *w, const struct pool *p, const struct backend *b)
{
    uint64_t age = elapsed_us(w, b->created_us);
    uint64_t idle = w->now_us - MIN(b->idle_since_us, w->now_us);

    (void)p;
    if (b->lifetime_us != 0 && age > b->lifetime_us)
        return "lifetime exceeded";
    if (b->idle_limit_us != 0 && b->uses > 0 && idle > b->idle_limit_us)
        return "idle timeout";
    return NULL;
}

static void on_tick(struct worker *w, struct pool *p)
{
    for (struct backend *b = p->waiting > 0 ? NULL : p->backends; b != NULL; b = b->pool_next) {
        const char *reason = b->state == BACKEND_IDLE ? expired(w, p, b) : NULL;

        if (reason == NULL)
            continue;
        if (!take_quota())
            break;
        idle_remove(p, b);
        backend_end(w, p, b, reason);
    }
    grow(w, p);
}

static void end_idle(struct worker *w, struct pool *p, const char *reason)
{
    struct backend *b;

    while ((b = idle_pop(p)) != NULL)
        backend_end(w, p, b, reason);
}

static void on_reconnect(struct worker *w, struct pool *p)
{
    p->epoch++;
    end_idle(w, p, "reconnect epoch outdated");
    log_info("RECONNECT: reconnected pool %s@%s (new epoch: %u)", p->shared->user,
             p->shared->database, p->epoch);
    dispatch(w, p);
}

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

static void remove_pool(struct worker *w, struct pool *p)
{
    p->removed = true;
    end_idle(w, p, "pool removed");
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        struct waiter *waiter = waiter_at(p, at);

        if (waiter->session != 0)
            refuse(w, waiter, "3D000", "Pool has been closed");
        waiter->session = 0;
    }
    p->waiting = 0;
}

static void on_configure(struct worker *w, struct pool *p)
{
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, p->shared->database);
    const struct user_config *user = pool == NULL ? NULL : config_user(pool, p->shared->user);

    if (user == NULL) {
        actor_id mine = actor_id_of(&p->actor);

        config_unref(config);
        /* A later reload may have put another in its place already. */
        atomic_compare_exchange_strong(&p->shared->pool, &mine, 0);
        remove_pool(w, p);
        return;
    }
    if (p->removed) { /* once told, it ends: the reload that brought the name back made a new one */
        config_unref(config);
        return;
    }
    bool reopen = p->effective != NULL && server_changed(p->effective, &user->effective);
    if (p->config != NULL)
        config_unref(p->config);
    p->config = config;
    p->effective = &user->effective;
    if (reopen) {
        log_info("[%s@%s] settings of the server changed, connections are replaced",
                 p->shared->user, p->shared->database);
        p->parameters_known = false;
        p->epoch++;
        end_idle(w, p, "configuration changed");
    }
    while (pool_size_now(p) - p->count[BACKEND_CLOSING] > p->effective->pool_size &&
           p->idle_count > 0)
        backend_end(w, p, idle_pop(p), "pool size reduced");
    dispatch(w, p);
}

static void on_pause(struct pool *p, bool paused)
{
    p->paused = paused;
    log_info("%s: %s pool %s@%s", paused ? "PAUSE" : "RESUME", paused ? "paused" : "resumed",
             p->shared->user, p->shared->database);
}

static void pool_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct pool *p = pool_of(self);

    switch (m->kind) {
    case MSG_POOL_CHECKOUT: on_checkout(w, p, m); break;
    case MSG_POOL_RETURN: on_return(w, p, m); break;
    case MSG_POOL_LOGIN: on_login(w, p, m); break;
    case MSG_POOL_WITHDRAW: on_withdraw(w, p, m); break;
    case MSG_POOL_READY: on_ready(w, p, m); break;
    case MSG_POOL_FAILED: on_failed(w, p, m); break;
    case MSG_POOL_GONE: on_gone(w, p, m); break;
    case MSG_BACKEND_HANGUP: on_hangup(w, p, m); break;
    case MESSAGE_ALARM: on_alarm(w, p, m); break;
    case MSG_POOL_TICK: on_tick(w, p); break;
    case MESSAGE_START:
    case MSG_POOL_CONFIGURE: on_configure(w, p); break;
    case MSG_POOL_PAUSE: on_pause(p, true); break;
    case MSG_POOL_RESUME:
        on_pause(p, false);
        dispatch(w, p);
        break;
    case MSG_POOL_RECONNECT: on_reconnect(w, p); break;
    case MSG_POOL_DRAIN:
        p->draining = true;
        end_idle(w, p, "graceful shutdown - releasing server connection");
        break;
    default: INVARIANT(!"a pool does not understand this kind of message");
    }
    pool_check(p);
    maybe_end(p);
}

/* The pool was closed while they asked; nobody else would ever answer. */
static void pool_missed(struct worker *w, struct message *m)
{
    struct waiter waiter = {.session = m->sender};

    if (m->kind == MSG_POOL_CHECKOUT)
        waiter.ticket = message_get_POOL_CHECKOUT(m).ticket;
    else if (m->kind == MSG_POOL_LOGIN)
        waiter.ticket = message_get_POOL_LOGIN(m).ticket;
    else
        return;
    refuse(w, &waiter, "3D000", "Pool has been closed");
}

void pool_check(const struct pool *p)
{
    INVARIANT(p->count[BACKEND_IDLE] == p->idle_count);
#ifdef DOORMAN_DEBUG
    uint32_t count[BACKEND_STATE_COUNT] = {0};
    uint32_t waiting = 0;

    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next)
        count[b->state]++;
    for (int state = 0; state < BACKEND_STATE_COUNT; state++)
        INVARIANT(count[state] == p->count[state]);
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++)
        waiting += p->waiters[at & (p->waiters_size - 1)].session != 0;
    INVARIANT(waiting == p->waiting);
#endif
}

static uint32_t pool_pack(const struct actor *a, struct packer *out)
{
    const struct pool *p = CONTAINER_OF(a, struct pool, actor);

    pack_str(out, "database");
    pack_str(out, p->shared->database);
    pack_str(out, "user");
    pack_str(out, p->shared->user);
    pack_str(out, "paused");
    pack_bool(out, p->paused);
    pack_str(out, "epoch");
    pack_uint(out, p->epoch);
    pack_str(out, "size");
    pack_uint(out, pool_size_now(p));
    pack_str(out, "creations");
    pack_uint(out, p->creations);
    pack_str(out, "backends");
    pack_map(out, BACKEND_STATE_COUNT);
    for (uint8_t state = 0; state < BACKEND_STATE_COUNT; state++) {
        pack_str(out, backend_state_name(state));
        pack_uint(out, p->count[state]);
    }
    pack_str(out, "waiters");
    size_t mark = pack_array_open(out);
    uint32_t count = 0;
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];

        if (waiter->session == 0)
            continue;
        pack_map(out, 3);
        pack_str(out, "session");
        pack_uint(out, waiter->session);
        pack_str(out, "since_us");
        pack_uint(out, waiter->since_us);
        pack_str(out, "deadline_us");
        pack_uint(out, waiter->deadline_us);
        count++;
    }
    pack_array_close(out, mark, count);
    return 8;
}

static const char *pool_state(const struct actor *a)
{
    const struct pool *p = CONTAINER_OF(a, struct pool, actor);

    return p->removed ? "removed" : p->draining ? "draining" : p->paused ? "paused" : "open";
}

const struct actor_type pool_type = {
    .name = "pool",
    .size = sizeof(struct pool),
    .rank = RANK_POOL,
    .number = 3,
    .receive = pool_receive,
    .pack = pool_pack,
    .state_name = pool_state,
    .kind_name = message_kind_name,
    .missed = pool_missed,
};
