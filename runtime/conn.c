/* The life of a connection: opening, arming, giving away, closing. */
#include "runtime/io.h"
#include "runtime/world.h"

#include <errno.h>

#include <stdlib.h>

/* Each life of a connection has an even number of its own, the time after it the odd one above; so
 * a late event does not take a later life for its own, not even when the actor's memory was cleared
 * in between. 0 is none. */
static _Atomic uint32_t epochs;

void conn_open(struct conn *c, int fd, struct actor *owner)
{
    INVARIANT((c->flags & CONN_OPEN) == 0 && c->out == NULL && owner != NULL);
    c->fd = fd;
    conn_flags_change(c, CONN_OPEN, UINT16_MAX);
    atomic_store_explicit(&c->ready, 0, memory_order_relaxed);
    c->out_last = NULL;
    c->out_bytes = 0;
    c->waiter = NULL;
    atomic_store_explicit(&c->waiting, 0, memory_order_relaxed);
    atomic_store_explicit(&c->worker, WORKERS_MAX, memory_order_relaxed);
    atomic_store_explicit(&c->epoch,
                          atomic_fetch_add_explicit(&epochs, 2, memory_order_relaxed) + 2,
                          memory_order_relaxed);
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
    conn_flags_change(c, CONN_RECV_ARMED, 0);
    w->engine->recv(w, c);
}

struct stop {
    struct post post;
    struct conn *conn;
    uint32_t epoch;
};

static void stop_here(struct worker *w, struct post *post)
{
    struct stop *stop = CONTAINER_OF(post, struct stop, post);

    if (atomic_load_explicit(&stop->conn->epoch, memory_order_relaxed) == stop->epoch)
        w->engine->recv_stop(w, stop->conn);
    free(stop);
}

bool conn_recv_stop(struct worker *w, struct conn *c)
{
    if ((c->flags & CONN_RECV_ARMED) == 0)
        return true;
    if (c->flags & CONN_RECV_DUE)
        return false;
    if (!w->engine->cancels) {
        conn_flags_change(c, 0, CONN_RECV_ARMED);
        return true;
    }
    conn_flags_change(c, CONN_RECV_STOP, 0);
    uint16_t at = atomic_load_explicit(&c->worker, memory_order_relaxed);
    if (at == w->index) {
        w->engine->recv_stop(w, c);
        return false;
    }
    struct stop *stop = malloc(sizeof *stop);
    INVARIANT(stop != NULL);
    *stop = (struct stop){.post.run = stop_here,
                          .conn = c,
                          .epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed)};
    worker_post(runtime_worker(at), &stop->post);
    return false;
}

static void conn_hurry(struct worker *w, struct conn *c)
{
    if (w->engine->hurry != NULL)
        w->engine->hurry(w, c);
}

void conn_want_sent(struct worker *w, struct conn *c)
{
    INVARIANT(c->out != NULL);
    conn_flags_change(c, CONN_WANT_SENT, 0);
    if (c->flags & CONN_SENDING)
        conn_hurry(w, c);
}

void conn_flush(struct worker *w, struct conn *c)
{
    if (c->out == NULL || (c->flags & CONN_CLOSING) != 0)
        return;
    if (c->flags & CONN_SENDING) {
        if (c->out_bytes > c->out->in_flight)
            conn_hurry(w, c); /* what was put since goes out behind it */
        return;
    }
    conn_flags_change(c, CONN_SENDING, 0);
    w->engine->send(w, c);
}

void conn_closed(struct worker *w, struct conn *c)
{
    conn_drop_output(w, c);
    w->engine->forget(w, c);
    io_close(c->fd);
    c->fd = -1;
    conn_flags_change(c, 0, UINT16_MAX);
    atomic_fetch_add_explicit(&c->epoch, 1, memory_order_relaxed);
}

bool conn_close(struct worker *w, struct conn *c)
{
    if (!conn_is_open(c))
        return true;
    if (c->flags & CONN_CLOSING)
        return false;
    if (!w->engine->cancels)
        conn_flags_change(c, 0, CONN_RECV_ARMED | CONN_SENDING);
    conn_drop_output(w, c);
    if ((c->flags & (CONN_RECV_ARMED | CONN_SENDING)) == 0) {
        conn_closed(w, c);
        return true;
    }
    conn_flags_change(c, CONN_CLOSING, 0);
    if (c->flags & CONN_SENDING)
        conn_hurry(w, c);
    /* Ends operations in flight on whatever ring they are. */
    io_shutdown(c->fd, SHUT_RDWR);
    return false;
}

int conn_peek(const struct conn *c)
{
    uint8_t byte;
    ssize_t got = io_peek(c->fd, &byte);

    if (got > 0)
        return byte;
    return got == 0 ? -ENODATA : -errno;
}
