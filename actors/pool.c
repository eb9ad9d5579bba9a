/* The actor: what a pool is told, and what must be true afterwards. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool_internal.h"

#include <stdlib.h>

/* What the predecessor still has of its connections counts against the cap till that has ended. */
static void maybe_end(struct worker *w, struct pool *p)
{
    if (!p->removed || p->backends != NULL || p->waiting > 0 || p->staying > 0)
        return;
    pool_permits_leave(w, p);
    actor_exit(&p->actor);
    free(p->idle);
    free(p->waiters);
    packer_free(&p->parameters);
    config_unref(p->config);
    p->idle = NULL;
    p->waiters = NULL;
}

static void on_alarm(struct worker *w, struct pool *p, struct message *m)
{
    if (m->alarm.token == p->alarm_us)
        p->alarm_us = 0;
    pool_expire(w, p);
    pool_dispatch(w, p);
}

static void pool_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct pool *p = pool_of(self);

    switch (m->kind) {
    case MSG_POOL_CHECKOUT: pool_on_checkout(w, p, m); break;
    case MSG_POOL_RETURN: pool_on_return(w, p, m); break;
    case MSG_POOL_LOGIN: pool_on_login(w, p, m); break;
    case MSG_POOL_WITHDRAW: pool_on_withdraw(w, p, m); break;
    case MSG_POOL_READY: pool_on_ready(w, p, m); break;
    case MSG_POOL_FAILED: pool_on_failed(w, p, m); break;
    case MSG_POOL_GONE: pool_on_gone(w, p, m); break;
    case MSG_BACKEND_HANGUP: pool_on_hangup(w, p, m); break;
    case MSG_POOL_PERMIT: pool_on_permit(w, p, m); break;
    case MSG_POOL_EVICT: pool_on_evict(w, p, m); break;
    case MSG_POOL_KEEP: pool_on_keep(w, p, m); break;
    case MESSAGE_ALARM: on_alarm(w, p, m); break;
    case MSG_POOL_TICK: pool_on_tick(w, p); break;
    case MSG_POOL_REPORT: statistics_log(p); break;
    case MSG_POOL_COLLECT: pool_collect(w, p); break;
    case MESSAGE_START:
    case MSG_POOL_CONFIGURE: pool_on_configure(w, p); break;
    case MSG_POOL_PAUSE: pool_on_pause(w, p, true); break;
    case MSG_POOL_RESUME: pool_on_pause(w, p, false); break;
    case MSG_POOL_RECONNECT: pool_on_reconnect(w, p); break;
    case MSG_POOL_ALONE: pool_on_alone(w, p); break;
    case MSG_POOL_DRAIN:
        p->draining = true;
        pool_end_idle(w, p, "graceful shutdown - releasing server connection");
        break;
    case MSG_POOL_SERVE: p->draining = false; break;
    default: INVARIANT(!"a pool does not understand this kind of message");
    }
    pool_permits_settle(w, p);
    pool_check(p);
    maybe_end(w, p);
}

/* The pool was closed while they asked; nobody else would ever answer. */
static void pool_missed(struct worker *w, struct message *m)
{
    uint64_t ticket;

    if (m->kind == MSG_POOL_CHECKOUT)
        ticket = message_get_POOL_CHECKOUT(m).ticket;
    else if (m->kind == MSG_POOL_LOGIN)
        ticket = message_get_POOL_LOGIN(m).ticket;
    else
        return;
    pool_refuse(w, m->sender, ticket, "53300", POOL_CLOSED);
}

/* --- what must be true between messages --- */

UNUSED static void check_backends(const struct pool *p)
{
    uint32_t count[BACKEND_STATE_COUNT] = {0};
    uint32_t replaced = 0;
    uint32_t extra = 0;

    for (const struct backend *b = p->backends; b != NULL; b = b->pool_next) {
        count[b->state]++;
        replaced += b->replaced;
        extra += b->extra;
        INVARIANT(!b->extra || b->state == BACKEND_LEASED || b->state == BACKEND_CLEANING ||
                  b->state == BACKEND_CLOSING);
    }
    for (int state = 0; state < BACKEND_STATE_COUNT; state++)
        INVARIANT(count[state] == p->count[state]);
    INVARIANT(replaced == p->replaced);
    INVARIANT(extra == p->extra);
    for (uint32_t i = 0; i < p->idle_count; i++)
        INVARIANT(p->idle[(p->idle_head + i) & (p->idle_size - 1)]->state == BACKEND_IDLE);
}

UNUSED static void check_waiters(const struct pool *p)
{
    uint32_t waiting = 0;
    uint64_t before_us = 0;

    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];

        INVARIANT(waiter->since_us >= before_us);
        before_us = waiter->since_us;
        waiting += waiter->session != 0;
    }
    INVARIANT(waiting == p->waiting);
}

void pool_check(const struct pool *p)
{
    INVARIANT(p->count[BACKEND_IDLE] == p->idle_count);
    INVARIANT(p->permits.unused == 0);
    INVARIANT(p->permits.coordinator == 0 || p->permits.held == pool_size_now(p) + p->staying);
#ifdef DOORMAN_DEBUG
    check_backends(p);
    check_waiters(p);
#endif
}

/* --- for people --- */

static void pack_waiters(const struct pool *p, struct packer *out)
{
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
}

static void pack_counts(const struct pool *p, struct packer *out)
{
    pack_map(out, BACKEND_STATE_COUNT);
    for (uint8_t state = 0; state < BACKEND_STATE_COUNT; state++) {
        pack_str(out, backend_state_name(state));
        pack_uint(out, p->count[state]);
    }
}

/* Large messages that were passed in pieces: to their end, not to their end, bytes. */
static void pack_streams(const struct pool *p, struct packer *out)
{
    static const char *const kinds[STREAM_KINDS] = {"data_row", "copy_data",
                                                    "function_call_response"};
    struct pool_counters sum = pool_counters_sum(p->shared);

    pack_map(out, STREAM_KINDS);
    for (int kind = 0; kind < STREAM_KINDS; kind++) {
        pack_str(out, kinds[kind]);
        pack_array(out, 3);
        pack_uint(out, sum.streams[kind]);
        pack_uint(out, sum.streams_broken[kind]);
        pack_uint(out, sum.stream_bytes[kind]);
    }
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
    pack_str(out, "dynamic");
    pack_bool(out, p->dynamic);
    pack_str(out, "epoch");
    pack_uint(out, p->epoch);
    pack_str(out, "size");
    pack_uint(out, pool_size_now(p));
    pack_str(out, "creations");
    pack_uint(out, p->scaling.creations);
    pack_str(out, "failures");
    pack_uint(out, p->failures);
    pack_str(out, "permits_held");
    pack_uint(out, p->permits.held);
    pack_str(out, "permits_wanted");
    pack_uint(out, p->permits.wanted);
    pack_str(out, "backends");
    pack_counts(p, out);
    pack_str(out, "waiters");
    pack_waiters(p, out);
    pack_str(out, "streams");
    pack_streams(p, out);
    return 13;
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
