/* The engine of the simulated world. Its operations end when chance says so.
 *
 * It works like io_uring: what is in flight is in the kernel's hands till it ends, and must end
 * before the descriptor may be closed. */
#include "runtime/sim_internal.h"

#include <errno.h>
#include <poll.h>

enum operation { RECEIVE, SEND, POLL };

static int engine_init(struct worker *w, struct failure *why)
{
    (void)w;
    (void)why;
    return 0;
}

static void engine_fini(struct worker *w)
{
    (void)w;
}

static void engine_recv(struct worker *w, struct conn *c)
{
    struct sim_end *e = sim_end_of(c->fd);

    if (sim_ops(e)->receiver != NULL)
        sim_fail("link %u: two receives at once", e->number);
    sim_ops(e)->receiver = c;
    sim_ops(e)->receiver_worker = w->index;
    sim_ops(e)->receiver_stop = false;
    atomic_store_explicit(&c->worker, w->index, memory_order_relaxed);
}

static void engine_send(struct worker *w, struct conn *c)
{
    struct sim_end *e = sim_end_of(c->fd);

    if (sim_ops(e)->sender != NULL)
        sim_fail("link %u: two sends at once", e->number);
    sim_ops(e)->sender = c;
    sim_ops(e)->sender_worker = w->index;
}

static void engine_recv_stop(struct worker *w, struct conn *c)
{
    struct sim_end *e = sim_end_of(c->fd);

    if (sim_ops(e)->receiver == NULL) /* it has ended, and its result is on its way */
        return;
    if (sim_ops(e)->receiver_worker != w->index)
        sim_fail("link %u: worker %u takes back what %u armed", e->number, w->index,
                 sim_ops(e)->receiver_worker);
    sim_ops(e)->receiver_stop = true;
}

static void engine_forget(struct worker *w, struct conn *c)
{
    (void)w;
    (void)c;
}

static void engine_poll(struct worker *w, struct io_poll *poll)
{
    struct sim_end *e = sim_end_of(poll->fd);

    if (sim_ops(e)->poll != NULL)
        sim_fail("link %u: two polls at once", e->number);
    sim_ops(e)->poll = poll;
    sim_ops(e)->poll_worker = w->index;
    sim_ops(e)->poll_cancelled = false;
    poll->armed = true;
}

static void engine_poll_cancel(struct worker *w, struct io_poll *poll)
{
    struct sim_end *e = sim_end_of(poll->fd);

    (void)w;
    if (sim_ops(e)->poll == poll)
        sim_ops(e)->poll_cancelled = true;
}

/* --- results --- */

static bool receive_ready(struct sim_end *e)
{
    return sim_ops(e)->receiver != NULL && (sim_ops(e)->receiver_stop || sim_readable(e));
}

static bool send_ready(struct sim_end *e)
{
    return sim_ops(e)->sender != NULL && sim_writable(e);
}

static uint32_t poll_events(struct sim_end *e)
{
    uint32_t events = 0;

    if ((sim_ops(e)->poll->events & POLLIN) && sim_readable(e))
        events |= POLLIN;
    if ((sim_ops(e)->poll->events & POLLOUT) && !e->connecting && sim_writable(e))
        events |= POLLOUT;
    return events;
}

static bool poll_ready(struct sim_end *e)
{
    return sim_ops(e)->poll != NULL && (sim_ops(e)->poll_cancelled || poll_events(e) != 0);
}

/* Receives into a buffer of its own; there is none if nothing came. */
static ssize_t receive(struct worker *w, const struct conn *c, struct sim_end *e,
                       struct rbuf **into)
{
    struct rbuf *buf = rbuf_take(w, c->flags & CONN_BULK ? RBUF_LARGE : RBUF_SMALL);
    ssize_t result = sim_receive(e, buf->data, buf->size);

    if (result > 0)
        *into = buf;
    else
        rbuf_unref(w, buf);
    return result;
}

static void end_receive(struct worker *w, struct sim_end *e)
{
    struct conn *c = sim_ops(e)->receiver;
    bool stopped = sim_ops(e)->receiver_stop && (!sim_readable(e) || sim_chance(700));
    struct rbuf *buf = NULL;
    ssize_t result = stopped ? -ECANCELED : receive(w, c, e, &buf);

    sim_ops(e)->receiver = NULL;
    sim_note("link %u: receive ends with %zd", e->number, result);
    conn_received(w, c, buf, (int32_t)result, e->in.visible > 0);
}

static void end_send(struct worker *w, struct sim_end *e)
{
    struct conn *c = sim_ops(e)->sender;
    struct output *out = c->out;
    ssize_t result = sim_transmit(e, &out->iov[out->first], out->count);

    sim_ops(e)->sender = NULL;
    sim_note("link %u: send ends with %zd", e->number, result);
    conn_send_done(w, c, (int32_t)result);
}

static void end_poll(struct worker *w, struct sim_end *e)
{
    struct io_poll *poll = sim_ops(e)->poll;
    uint32_t events = poll_events(e);
    int result = sim_ops(e)->poll_cancelled || events == 0 ? -ECANCELED : (int)events;

    sim_ops(e)->poll = NULL;
    poll->armed = false;
    sim_note("link %u: poll ends with %d", e->number, result);
    poll->done(w, poll, result);
}

/* What was in flight is taken back, or ends in that very moment. */
static void hold_receive(struct worker *w, struct conn *c)
{
    struct sim_end *e = sim_end_of(c->fd);
    struct rbuf *buf = NULL;
    ssize_t result = -ECANCELED;

    if (sim_ops(e)->receiver != c || sim_ops(e)->receiver_worker != w->index)
        return;
    if (sim_readable(e) && sim_chance(500))
        result = receive(w, c, e, &buf);
    sim_ops(e)->receiver = NULL;
    sim_note("link %u: receive is held with %zd", e->number, result);
    conn_held_recv(w, c, buf, (int32_t)result, e->in.visible > 0);
}

static void hold_send(struct worker *w, struct conn *c)
{
    struct sim_end *e = sim_end_of(c->fd);
    const struct output *out = c->out;
    ssize_t result = -ECANCELED;

    if (sim_ops(e)->sender != c || sim_ops(e)->sender_worker != w->index)
        return;
    if (sim_writable(e) && sim_chance(500))
        result = sim_transmit(e, &out->iov[out->first], out->count);
    sim_ops(e)->sender = NULL;
    sim_note("link %u: send is held with %zd", e->number, result);
    conn_held_send(w, c, (int32_t)result);
}

static void engine_hold(struct worker *w, struct conn *const *conns, size_t count, bool sends)
{
    for (size_t i = 0; i < count; i++) {
        if (sends)
            hold_send(w, conns[i]);
        else
            hold_receive(w, conns[i]);
    }
}

/* How many operations of that worker have a result; out, if there is room, tells which. */
static unsigned results(unsigned worker, uint16_t *out, unsigned size)
{
    unsigned count = 0;

    for (unsigned i = 0; i < sim_table()->limit; i++) {
        struct sim_end *e = sim_table()->ends[i];

        if (e == NULL)
            continue;
        if (count < size && sim_ops(e)->receiver_worker == worker && receive_ready(e))
            out[count++] = (uint16_t)(i << 2 | RECEIVE);
        if (count < size && sim_ops(e)->sender_worker == worker && send_ready(e))
            out[count++] = (uint16_t)(i << 2 | SEND);
        if (count < size && sim_ops(e)->poll_worker == worker && poll_ready(e))
            out[count++] = (uint16_t)(i << 2 | POLL);
    }
    return count;
}

bool sim_engine_ready(unsigned worker)
{
    uint16_t which[1];

    return results(worker, which, 1) > 0;
}

bool sim_engine_deliver(struct worker *w)
{
    uint16_t which[256];
    unsigned count = results(w->index, which, COUNT_OF(which));

    if (count == 0)
        return false;
    uint16_t pick = which[sim_below(count)];
    struct sim_end *e = sim_table()->ends[pick >> 2];
    switch ((enum operation)(pick & 3)) {
    case RECEIVE: end_receive(w, e); break;
    case SEND: end_send(w, e); break;
    case POLL: end_poll(w, e); break;
    }
    return true;
}

/* The loop is driven in steps, and this is never called. */
static void engine_turn(struct worker *w, uint64_t until_us)
{
    (void)w;
    (void)until_us;
    INVARIANT(!"a simulated worker does not wait");
}

struct io_engine io_sim_engine = {
    .name = "sim",
    .init = engine_init,
    .fini = engine_fini,
    .recv = engine_recv,
    .send = engine_send,
    .recv_stop = engine_recv_stop,
    .forget = engine_forget,
    .poll = engine_poll,
    .poll_cancel = engine_poll_cancel,
    .turn = engine_turn,
    .wake = sim_wake,
    .hold = engine_hold,
    .cancels = true,
};
