/* What becomes of results, and coroutines that wait for them.
 *
 * A result goes to the owner. Idle, it is claimed and run right here. Busy, there are two cases: a
 * coroutine of it waits for this connection (conn_wait_for), on this worker or on another; or it
 * does something else. The message goes to the mailbox, but for a coroutine on this worker, which
 * is suspended while the engine runs, so that its actor is in these hands. A coroutine that begins
 * to wait looks into its actor's mailbox for what came before (conn_look). */
#include "runtime/io.h"

#include <errno.h>
#include <stdlib.h>

/* A coroutine that waits for one operation of its connection. On its stack; for its worker only. */
struct conn_wait {
    struct wait wait;
    enum { FOR_RECV, FOR_SENT, FOR_CLOSED } what;
    struct rbuf *buf;
};

/* Asks the worker of a coroutine that waits to look into the mailbox. */
struct look {
    struct post post;
    struct conn *conn;
};

static void conn_look(struct worker *w, struct conn *c);

/* The coroutine that waits for c does so on this worker; so the owner is in these hands. */
static bool waited_for_here(struct worker *w, struct conn *c)
{
    return atomic_load_explicit(&c->waiting, memory_order_relaxed) == w->index + 1u;
}

static void look_here(struct worker *w, struct post *post)
{
    struct look *look = CONTAINER_OF(post, struct look, post);
    struct conn *c = look->conn;

    free(look);
    if (waited_for_here(w, c))
        conn_look(w, c);
}

/* A copy of m into the owner's mailbox. */
static void conn_keep(struct worker *w, struct actor *owner, const struct message *m)
{
    struct message *queued = message_new(m->kind);

    queued->io = m->io;
    queued->flags = m->flags;
    queued->target = actor_id_of(owner);
    switch (mailbox_push(&owner->box, queued)) {
    case PUSHED: return;
    case PUSHED_TO_IDLE: worker_schedule(w, owner); return;
    case PUSH_REFUSED: break;
    }
    /* Only a hint of readiness may outlive the owner. */
    INVARIANT(m->kind == MESSAGE_READY);
    message_free(queued);
}

void conn_defer(struct worker *w, const struct message *m)
{
    struct conn *c = m->io.conn;

    conn_flags_change(c, m->kind == MESSAGE_RECV ? CONN_RECV_DUE : CONN_SENT_DUE, 0);
    conn_keep(w, atomic_load_explicit(&c->owner, memory_order_relaxed), m);
}

void conn_defer_result(struct worker *w, struct conn *c, uint16_t kind, int32_t result)
{
    struct message m = {.kind = kind};

    m.io.conn = c;
    m.io.buf = NULL;
    m.io.conn_epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    m.io.result = result;
    conn_defer(w, &m);
}

static void conn_queue(struct worker *w, struct conn *c, struct actor *owner, struct message *m)
{
    conn_keep(w, owner, m);
    /* Its coroutine publishes that it waits, fences, and looks into the mailbox; this has filled
     * the mailbox, fences, and looks whether somebody waits. One of them sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    unsigned waiting = atomic_load_explicit(&c->waiting, memory_order_relaxed);
    if (waiting == 0)
        return;
    struct look *look = malloc(sizeof *look);
    INVARIANT(look != NULL);
    *look = (struct look){.post.run = look_here, .conn = c};
    worker_post(runtime_worker(waiting - 1), &look->post);
}

static void conn_finish_send(struct worker *w, struct conn *c, int32_t result)
{
    INVARIANT(c->flags & CONN_SENDING);
    conn_flags_change(c, 0, CONN_SENT_DUE);
    if (result >= 0) {
        conn_advance(w, c, (size_t)result);
        if (c->out != NULL && (c->flags & CONN_CLOSING) == 0) {
            w->engine->send(w, c);
            return;
        }
    }
    conn_flags_change(c, 0, CONN_SENDING);
    if (result < 0)
        conn_drop_output(w, c);
}

/* False: it goes on. */
static bool conn_finish_recv(struct worker *w, struct conn *c, const struct message *m)
{
    /* The cancellation was meant for a receive that had ended by itself before. */
    if (m->io.result == -ECANCELED && (c->flags & (CONN_RECV_STOP | CONN_CLOSING)) == 0) {
        w->engine->recv(w, c);
        return false;
    }
    conn_flags_change(c, 0, CONN_RECV_ARMED | CONN_RECV_DUE | CONN_RECV_STOP | CONN_MORE);
    if (m->flags & MESSAGE_MORE)
        conn_flags_change(c, CONN_MORE, 0);
    if (m->io.buf != NULL && m->io.result == (int32_t)m->io.buf->size)
        conn_flags_change(c, CONN_BULK, 0);
    else if (m->io.result < RBUF_SMALL_BYTES)
        conn_flags_change(c, 0, CONN_BULK);
    return true;
}

/* Whether the owner is to know that a send ended. */
static bool conn_sent_wanted(struct conn *c, int32_t result)
{
    if (result >= 0 && (c->flags & (CONN_WANT_SENT | CONN_SENDING)) != CONN_WANT_SENT)
        return false;
    conn_flags_change(c, 0, CONN_WANT_SENT);
    return true;
}

static void conn_drop(struct worker *w, struct message *m)
{
    if (m->kind == MESSAGE_RECV && m->io.buf != NULL)
        rbuf_unref(w, m->io.buf);
}

/* Readiness is a hint, which the engine has noted: it matters only when something is armed. It may
 * have been seen for an owner that has given the connection away since, and who knows at what
 * moment. But the flags are looked at before the owner: armed by another, then that other is seen.
 */
static void conn_admit_ready(struct worker *w, struct actor *hands, struct message *m)
{
    struct conn *c = m->io.conn;

    if ((c->flags & (CONN_RECV_ARMED | CONN_SENDING)) == 0)
        return;
    struct actor *owner = atomic_load_explicit(&c->owner, memory_order_acquire);
    if (owner == hands)
        w->engine->ready(w, c, (uint32_t)m->io.result);
    else if (owner != NULL)
        conn_queue(w, c, owner, m);
}

bool conn_admit(struct worker *w, struct actor *hands, struct message *m)
{
    struct conn *c = m->io.conn;

    if (m->kind == MESSAGE_CLOSED) /* the end of an earlier epoch */
        return true;
    if (atomic_load_explicit(&c->epoch, memory_order_relaxed) != m->io.conn_epoch) {
        conn_drop(w, m);
        return false;
    }
    if (m->flags & MESSAGE_ADMITTED)
        return true;
    if (m->kind == MESSAGE_READY) {
        conn_admit_ready(w, hands, m);
        return false;
    }
    /* What is in flight keeps a connection with its owner. */
    INVARIANT(atomic_load_explicit(&c->owner, memory_order_relaxed) == hands);
    if (m->kind == MESSAGE_RECV) {
        if (!conn_finish_recv(w, c, m))
            return false;
        if ((c->flags & CONN_CLOSING) == 0)
            return true;
        conn_drop(w, m);
    } else {
        conn_finish_send(w, c, m->io.result);
        m->io.result = MIN(m->io.result, 0); /* how many bytes the last piece had is of no use */
        if ((c->flags & CONN_CLOSING) == 0)
            return conn_sent_wanted(c, m->io.result);
    }
    /* A connection that is being closed takes no results, it only waits for the last one. */
    if ((c->flags & (CONN_RECV_ARMED | CONN_SENDING)) != 0)
        return false;
    conn_closed(w, c);
    m->kind = MESSAGE_CLOSED;
    return true;
}

/* A result, and a coroutine that waits here, perhaps for something else. */
static void conn_end_wait(struct worker *w, struct conn *c, struct message *m)
{
    struct conn_wait *waiter = c->waiter;
    struct actor *owner = atomic_load_explicit(&c->owner, memory_order_relaxed);
    bool waits = wait_pending(waiter->wait);

    /* Received bytes keep for later, unlike the end of a send: with it the next one begins, and
     * what is waited for may be the answer to that. */
    if (m->kind == MESSAGE_RECV && (waiter->what == FOR_SENT || !waits)) {
        conn_defer(w, m);
        return;
    }
    if (!conn_admit(w, owner, m))
        return;
    if (m->kind == MESSAGE_SENT && (waiter->what != FOR_SENT || !waits)) {
        m->flags |= MESSAGE_ADMITTED;
        conn_keep(w, owner, m);
        return;
    }
    if (m->kind == MESSAGE_RECV)
        waiter->buf = m->io.buf;
    INVARIANT(m->kind != MESSAGE_CLOSED || waiter->what == FOR_CLOSED);
    wait_end(w, waiter->wait, m->kind == MESSAGE_CLOSED ? 0 : m->io.result);
}

/* What conn_look takes out of the mailbox: all but what conn_end_wait would put back. */
static bool look_wants(const struct message *m, const void *context)
{
    const struct conn *c = context;

    if (m->kind < MESSAGE_RECV || m->kind > MESSAGE_READY || m->io.conn != c ||
        (m->flags & MESSAGE_ADMITTED) != 0)
        return false;
    return m->kind != MESSAGE_RECV ||
           (c->waiter->what != FOR_SENT && wait_pending(c->waiter->wait));
}

/* In the owner's hands, whose coroutine waits on this worker, or is about to. */
static void conn_look(struct worker *w, struct conn *c)
{
    struct actor *owner = atomic_load_explicit(&c->owner, memory_order_relaxed);
    struct message *m;

    while ((m = mailbox_extract(&owner->box, look_wants, c)) != NULL) {
        conn_end_wait(w, c, m);
        message_free(m);
    }
}

static void conn_deliver(struct worker *w, struct conn *c, struct message *m)
{
    struct actor *owner = atomic_load_explicit(&c->owner, memory_order_acquire);

    if (owner == NULL) /* a late event, and the struct has begun another life */
        return;
    if (waited_for_here(w, c)) {
        conn_end_wait(w, c, m);
        return;
    }
    if (mailbox_claim(&owner->box)) {
        w->counters.claims_won++;
        actor_run_message(w, owner, m);
        actor_release(w, owner);
        return;
    }
    w->counters.claims_lost++;
    conn_queue(w, c, owner, m);
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
    conn_deliver(w, c, &m);
}

void conn_deliver_held(struct worker *w, struct conn *c, struct message *m)
{
    if (waited_for_here(w, c))
        conn_end_wait(w, c, m);
    else
        actor_run_message(w, atomic_load_explicit(&c->owner, memory_order_relaxed), m);
}

/* --- waiting --- */

static int64_t conn_wait_for(struct worker *w, struct conn *c, struct conn_wait *waiter,
                             uint64_t deadline_us)
{
    INVARIANT(atomic_load_explicit(&c->owner, memory_order_relaxed) == w->coroutine->actor);
    waiter->wait = wait_begin(w);
    c->waiter = waiter;
    atomic_store_explicit(&c->waiting, (uint16_t)(w->index + 1u), memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the one in conn_queue */
    conn_look(w, c);
    int64_t result = wait_suspend(w, deadline_us);
    atomic_store_explicit(&c->waiting, 0, memory_order_relaxed);
    c->waiter = NULL;
    return result;
}

int64_t conn_read(struct worker *w, struct conn *c, struct rbuf **buf, uint64_t deadline_us)
{
    struct conn_wait waiter = {.what = FOR_RECV};

    *buf = NULL;
    if (!conn_is_open(c) || (c->flags & CONN_CLOSING) != 0)
        return -ENOTCONN;
    conn_recv(w, c);
    int64_t result = conn_wait_for(w, c, &waiter, deadline_us);
    *buf = waiter.buf;
    return result;
}

int64_t conn_write(struct worker *w, struct conn *c, const void *at, size_t len,
                   uint64_t deadline_us)
{
    struct conn_wait waiter = {.what = FOR_SENT};

    if (!conn_is_open(c) || (c->flags & CONN_CLOSING) != 0)
        return -ENOTCONN;
    conn_put_copy(w, c, at, len);
    conn_flush(w, c);
    if (c->out == NULL && (c->flags & CONN_SENDING) == 0)
        return 0;
    conn_want_sent(w, c);
    /* The wait ends with the bytes of the last send. */
    return MIN(conn_wait_for(w, c, &waiter, deadline_us), (int64_t)0);
}

void conn_close_wait(struct worker *w, struct conn *c)
{
    struct conn_wait waiter = {.what = FOR_CLOSED};

    if (!conn_close(w, c))
        conn_wait_for(w, c, &waiter, 0);
}
