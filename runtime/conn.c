#include "runtime/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { OUTPUTS_KEPT = 512 };

/* A coroutine that waits for one operation of its connection. */
struct conn_wait {
    struct wait wait;
    bool for_send;
    struct rbuf *buf;
};

/* --- output queues --- */

static struct output *output_take(struct worker *w)
{
    struct output *out = w->outputs;

    if (LIKELY(out != NULL)) {
        w->outputs = out->next;
        w->outputs_free--;
    } else {
        out = malloc(sizeof *out);
        INVARIANT(out != NULL);
    }
    out->next = NULL;
    out->first = 0;
    out->count = 0;
    out->copies = NULL;
    out->copies_used = 0;
    return out;
}

static void output_give(struct worker *w, struct output *out)
{
    if (out->copies != NULL)
        rbuf_unref(w, out->copies);
    if (w->outputs_free >= OUTPUTS_KEPT) {
        free(out);
        return;
    }
    out->next = w->outputs;
    w->outputs = out;
    w->outputs_free++;
}

static struct output *output_room(struct worker *w, struct conn *c)
{
    struct output *last = c->out_last;

    if (last != NULL && last->first + last->count < OUTPUT_SLICES)
        return last;
    struct output *out = output_take(w);
    if (c->out == NULL)
        c->out = out;
    else
        last->next = out;
    c->out_last = out;
    return out;
}

void conn_put(struct worker *w, struct conn *c, struct rbuf *buf, const uint8_t *at, uint32_t len)
{
    DEBUG_CHECK(at >= buf->data && at + len <= buf->data + buf->size);
    if (len == 0)
        return;
    struct output *out = output_room(w, c);
    c->out_bytes += len;
    if (out->count > 0 && (out != c->out || (c->flags & CONN_SENDING) == 0)) {
        unsigned last = out->first + out->count - 1u;
        struct iovec *tail = &out->iov[last];

        if (out->buf[last] == buf && (uint8_t *)tail->iov_base + tail->iov_len == at) {
            tail->iov_len += len;
            return;
        }
    }
    unsigned slot = out->first + out->count++;
    out->iov[slot].iov_base = (void *)(uintptr_t)at;
    out->iov[slot].iov_len = len;
    out->buf[slot] = rbuf_ref(buf);
}

void conn_put_copy(struct worker *w, struct conn *c, const void *at, size_t len)
{
    const uint8_t *from = at;

    while (len > 0) {
        struct output *out = output_room(w, c);

        if (out->copies == NULL || out->copies_used == out->copies->size) {
            if (out->copies != NULL)
                rbuf_unref(w, out->copies);
            out->copies = rbuf_take(w, len > RBUF_SMALL_BYTES ? RBUF_LARGE : RBUF_SMALL);
            out->copies_used = 0;
        }
        uint32_t part = (uint32_t)MIN(len, (size_t)(out->copies->size - out->copies_used));
        uint8_t *to = out->copies->data + out->copies_used;
        memcpy(to, from, part);
        out->copies_used += part;
        conn_put(w, c, out->copies, to, part);
        from += part;
        len -= part;
    }
}

/* Takes `sent` bytes off the front. */
void conn_advance(struct worker *w, struct conn *c, size_t sent)
{
    INVARIANT(sent <= c->out_bytes);
    c->out_bytes -= (uint32_t)sent;
    while (c->out != NULL) {
        struct output *out = c->out;

        while (out->count > 0 && sent >= out->iov[out->first].iov_len) {
            sent -= out->iov[out->first].iov_len;
            rbuf_unref(w, out->buf[out->first]);
            out->first++;
            out->count--;
        }
        if (out->count > 0) {
            struct iovec *head = &out->iov[out->first];

            head->iov_base = (uint8_t *)head->iov_base + sent;
            head->iov_len -= sent;
            return;
        }
        c->out = out->next;
        output_give(w, out);
    }
    c->out_last = NULL;
    INVARIANT(c->out_bytes == 0 && sent == 0);
}

void conn_drop_output(struct worker *w, struct conn *c)
{
    if ((c->flags & CONN_SENDING) == 0 && c->out != NULL)
        conn_advance(w, c, c->out_bytes);
}

/* --- life --- */

void conn_open(struct conn *c, int fd, struct actor *owner)
{
    INVARIANT((c->flags & CONN_OPEN) == 0 && c->out == NULL);
    c->fd = fd;
    c->flags = CONN_OPEN;
    c->out_last = NULL;
    c->out_bytes = 0;
    c->waiter = NULL;
    atomic_store_explicit(&c->worker, WORKERS_MAX, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->epoch, 1, memory_order_relaxed);
    atomic_store_explicit(&c->owner, owner, memory_order_release);
}

void conn_give(struct conn *c, struct actor *owner)
{
    INVARIANT(conn_quiet(c));
    atomic_store_explicit(&c->owner, owner, memory_order_release);
}

void conn_recv(struct worker *w, struct conn *c)
{
    if ((c->flags & (CONN_RECV_ARMED | CONN_CLOSING)) != 0)
        return;
    DEBUG_CHECK(conn_is_open(c));
    c->flags |= CONN_RECV_ARMED;
    w->engine->recv(w, c);
}

void conn_flush(struct worker *w, struct conn *c)
{
    if (c->out == NULL || (c->flags & (CONN_SENDING | CONN_CLOSING)) != 0)
        return;
    c->flags |= CONN_SENDING;
    w->engine->send(w, c);
}

static void conn_closed(struct worker *w, struct conn *c)
{
    conn_drop_output(w, c);
    w->engine->forget(w, c);
    close(c->fd);
    c->fd = -1;
    c->flags = 0;
    atomic_fetch_add_explicit(&c->epoch, 1, memory_order_relaxed);
}

bool conn_close(struct worker *w, struct conn *c)
{
    if (!conn_is_open(c))
        return true;
    if (c->flags & CONN_CLOSING)
        return false;
    if (!w->engine->cancels)
        c->flags &= (uint16_t) ~(CONN_RECV_ARMED | CONN_SENDING);
    conn_drop_output(w, c);
    if ((c->flags & (CONN_RECV_ARMED | CONN_SENDING)) == 0) {
        conn_closed(w, c);
        return true;
    }
    c->flags |= CONN_CLOSING;
    /* Ends operations in flight on whatever ring they are. */
    shutdown(c->fd, SHUT_RDWR);
    return false;
}

/* --- results --- */

/* A connection that is being closed takes no results, it only waits for the last one. True: that
 * was it, and the owner is to know. */
static bool conn_closing_step(struct worker *w, struct conn *c)
{
    if ((c->flags & (CONN_RECV_ARMED | CONN_SENDING)) != 0)
        return false;
    conn_closed(w, c);
    return true;
}

static void conn_finish_send(struct worker *w, struct conn *c, int32_t result)
{
    INVARIANT(c->flags & CONN_SENDING);
    if (result >= 0) {
        conn_advance(w, c, (size_t)result);
        if (c->out != NULL && (c->flags & CONN_CLOSING) == 0) {
            w->engine->send(w, c);
            return;
        }
    }
    c->flags &= (uint16_t)~CONN_SENDING;
    if (result < 0)
        conn_drop_output(w, c);
}

bool conn_admit(struct worker *w, struct message *m)
{
    struct conn *c = m->io.conn;

    if (atomic_load_explicit(&c->epoch, memory_order_relaxed) != m->io.conn_epoch) {
        if (m->kind == MESSAGE_RECV && m->io.buf != NULL)
            rbuf_unref(w, m->io.buf);
        return false;
    }
    switch (m->kind) {
    case MESSAGE_RECV:
        c->flags &= (uint16_t) ~(CONN_RECV_ARMED | CONN_MORE);
        if (m->flags & MESSAGE_MORE)
            c->flags |= CONN_MORE;
        if (m->io.buf != NULL && m->io.result == (int32_t)m->io.buf->size)
            c->flags |= CONN_BULK;
        else if (m->io.result < RBUF_SMALL_BYTES)
            c->flags &= (uint16_t)~CONN_BULK;
        if ((c->flags & CONN_CLOSING) == 0)
            return true;
        if (m->io.buf != NULL)
            rbuf_unref(w, m->io.buf);
        break;
    case MESSAGE_SENT:
        conn_finish_send(w, c, m->io.result);
        if ((c->flags & CONN_CLOSING) == 0) {
            if (m->io.result < 0)
                return true;
            bool wanted = (c->flags & CONN_WANT_SENT) != 0 && c->out == NULL;
            if (wanted)
                c->flags &= (uint16_t)~CONN_WANT_SENT;
            return wanted;
        }
        break;
    case MESSAGE_READY: w->engine->ready(w, c, (uint32_t)m->io.result); return false;
    default: return true;
    }
    if (!conn_closing_step(w, c))
        return false;
    m->kind = MESSAGE_CLOSED;
    return true;
}

/* The coroutine that waits on this connection is on this worker: it armed the operation. */
static void conn_end_wait(struct worker *w, struct conn *c, struct message *m)
{
    struct conn_wait *waiter = c->waiter;

    if (!conn_admit(w, m))
        return;
    if (m->kind == MESSAGE_RECV)
        waiter->buf = m->io.buf;
    if (m->kind == MESSAGE_SENT && !waiter->for_send)
        return;
    wait_end(w, waiter->wait, m->kind == MESSAGE_CLOSED ? 0 : m->io.result);
}

static void conn_deliver(struct worker *w, struct conn *c, struct message *m)
{
    struct actor *owner = atomic_load_explicit(&c->owner, memory_order_acquire);

    if (mailbox_claim(&owner->box)) {
        w->counters.claims_won++;
        actor_run_message(w, owner, m);
        actor_release(w, owner);
        return;
    }
    /* Busy, here or elsewhere. If a coroutine of it waits for this connection, it waits on this
     * worker, for it armed the operation. */
    if (c->waiter != NULL) {
        conn_end_wait(w, c, m);
        return;
    }
    w->counters.claims_lost++;
    struct message *queued = message_new(m->kind);
    queued->io = m->io;
    queued->flags = m->flags;
    queued->target = actor_id_of(owner);
    switch (mailbox_push(&owner->box, queued)) {
    case PUSHED: break;
    case PUSHED_TO_IDLE: worker_schedule(w, owner); break;
    case PUSH_REFUSED: message_free(queued); break;
    }
}

void conn_received(struct worker *w, struct conn *c, struct rbuf *buf, int32_t result, bool more)
{
    struct message m = {.kind = MESSAGE_RECV, .flags = more ? MESSAGE_MORE : 0};

    m.io.conn = c;
    m.io.buf = buf;
    m.io.conn_epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    m.io.result = result;
    conn_deliver(w, c, &m);
}

void conn_send_done(struct worker *w, struct conn *c, int32_t result)
{
    struct message m = {.kind = MESSAGE_SENT};

    m.io.conn = c;
    m.io.conn_epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    m.io.result = result;
    conn_deliver(w, c, &m);
}

void conn_event(struct worker *w, struct conn *c, uint32_t epoch, uint32_t events)
{
    struct message m = {.kind = MESSAGE_READY};

    m.io.conn = c;
    m.io.conn_epoch = epoch;
    m.io.result = (int32_t)events;
    if (c->waiter != NULL)
        w->engine->ready(w, c, events);
    else
        conn_deliver(w, c, &m);
}

void conn_deliver_held(struct worker *w, struct conn *c, struct message *m)
{
    if (c->waiter != NULL)
        conn_end_wait(w, c, m);
    else
        actor_run_message(w, atomic_load_explicit(&c->owner, memory_order_relaxed), m);
}

/* --- waiting --- */

int64_t conn_read(struct worker *w, struct conn *c, struct rbuf **buf, uint64_t deadline_us)
{
    struct conn_wait waiter = {.wait = wait_begin(w)};

    *buf = NULL;
    c->waiter = &waiter;
    conn_recv(w, c);
    int64_t result = wait_suspend(w, deadline_us);
    c->waiter = NULL;
    if (result > 0) {
        *buf = waiter.buf;
    } else if (waiter.buf != NULL) {
        rbuf_unref(w, waiter.buf);
    }
    return result;
}

int64_t conn_write(struct worker *w, struct conn *c, const void *at, size_t len,
                   uint64_t deadline_us)
{
    conn_put_copy(w, c, at, len);
    conn_flush(w, c);
    if (c->out == NULL)
        return 0;
    struct conn_wait waiter = {.wait = wait_begin(w), .for_send = true};
    c->waiter = &waiter;
    conn_want_sent(c);
    int64_t result = wait_suspend(w, deadline_us);
    c->waiter = NULL;
    return result;
}

void conn_close_wait(struct worker *w, struct conn *c)
{
    if (conn_close(w, c))
        return;
    struct conn_wait waiter = {.wait = wait_begin(w)};
    c->waiter = &waiter;
    wait_suspend(w, 0);
    c->waiter = NULL;
}
