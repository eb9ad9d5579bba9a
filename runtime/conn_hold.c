/* Connections at rest while the world stands, and after. */
#include "runtime/io.h"

#include <errno.h>
#include <unistd.h>

void conn_hold(struct worker *w, struct conn *const *conns, size_t count, bool sends)
{
    if (w->engine->hold != NULL)
        w->engine->hold(w, conns, count, sends);
}

bool conn_at_rest(const struct worker *w, const struct conn *c)
{
    if (!conn_is_open(c) || (c->flags & CONN_CLOSING) != 0 ||
        atomic_load_explicit(&c->waiting, memory_order_relaxed) != 0)
        return false;
    return w->engine->hold == NULL ||
           ((c->flags & (CONN_RECV_ARMED | CONN_RECV_DUE)) != CONN_RECV_ARMED &&
            (c->flags & (CONN_SENDING | CONN_SENT_DUE)) != CONN_SENDING);
}

void conn_held_recv(struct worker *w, struct conn *c, struct rbuf *buf, int32_t result, bool more)
{
    bool undone = result == -ECANCELED || result == -ENOBUFS || result == -EINTR ||
                  result == -EAGAIN;

    /* An owner that takes its receive back, or closes, waits for word of that. */
    if (undone && (c->flags & (CONN_RECV_STOP | CONN_CLOSING)) == 0) {
        conn_flags_change(c, CONN_RECV_HELD, CONN_RECV_ARMED);
        return;
    }
    struct message m = {.kind = MESSAGE_RECV, .flags = more ? MESSAGE_MORE : 0};
    m.io.conn = c;
    m.io.buf = buf;
    m.io.conn_epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    m.io.result = result;
    conn_defer(w, &m);
}

void conn_held_send(struct worker *w, struct conn *c, int32_t result)
{
    bool undone = result == -ECANCELED || result == -EINTR;

    if ((c->flags & CONN_CLOSING) != 0 || (result < 0 && !undone)) {
        conn_defer_result(w, c, MESSAGE_SENT, result);
        return;
    }
    if (result > 0)
        conn_advance(w, c, (size_t)result);
    if (c->out == NULL && (c->flags & CONN_WANT_SENT)) {
        /* Its end is told when things go on. */
        conn_defer_result(w, c, MESSAGE_SENT, 0);
        return;
    }
    conn_flags_change(c, c->out == NULL ? 0 : CONN_SEND_HELD, CONN_SENDING);
}

void conn_resume(struct worker *w, struct conn *const *conns, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct conn *c = conns[i];

        if ((c->flags & (CONN_RECV_HELD | CONN_SEND_HELD)) == 0)
            continue;
        /* A send has no worker of its own. */
        uint16_t at = atomic_load_explicit(&c->worker, memory_order_relaxed);
        if (at != w->index && (at < runtime_workers() || w->index != 0))
            continue;
        unsigned held = c->flags & (CONN_RECV_HELD | CONN_SEND_HELD);
        conn_flags_change(c, 0, CONN_RECV_HELD | CONN_SEND_HELD);
        if (held & CONN_SEND_HELD)
            conn_flush(w, c);
        if (held & CONN_RECV_HELD)
            conn_recv(w, c);
    }
}

void conn_abandon(struct worker *w, struct conn *c)
{
    if (!conn_is_open(c))
        return;
    conn_flags_change(c, 0, CONN_SENDING);
    conn_closed(w, c);
}
