/* The epoll engine: edge-triggered, each descriptor registered once, with the worker that arms its
 * receive. A receive that is armed elsewhere moves the registration. Sends are tried at once and
 * wait for writability only when the socket is full. */
#include "runtime/io.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS = 256, TAG_POLL = 1, TAG_WAKE = 2, TAG_MASK = 7, EPOCH_SHIFT = 48 };

struct listed {
    struct conn *conn;
    uint32_t epoch;
};

struct epoll_io {
    int epoll;
    int event;
    struct listed *listed; /* known ready without an event to come */
    uint32_t listed_count;
    uint32_t listed_size;
};

static struct epoll_io *io_of(struct worker *w)
{
    return w->io;
}

static int epoll_start(struct worker *w, struct failure *why)
{
    struct epoll_io *io = calloc(1, sizeof *io);
    struct epoll_event wake = {.events = EPOLLIN, .data.u64 = TAG_WAKE};

    INVARIANT(io != NULL);
    io->epoll = epoll_create1(EPOLL_CLOEXEC);
    io->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->io = io;
    if (io->epoll < 0 || io->event < 0 ||
        epoll_ctl(io->epoll, EPOLL_CTL_ADD, io->event, &wake) != 0)
        return fail(why, "epoll: %s", strerror(errno));
    return 0;
}

static void epoll_stop(struct worker *w)
{
    struct epoll_io *io = io_of(w);

    close(io->epoll);
    close(io->event);
    free(io->listed);
    free(io);
    w->io = NULL;
}

static void epoll_wake(struct worker *w)
{
    uint64_t one = 1;

    if (write(io_of(w)->event, &one, sizeof one) < 0) {
        /* Full means that a wake-up is on its way. */
    }
}

/* Arms for reading, and for writing too when a send waits; either reports what is there by now. A
 * conn that is registered elsewhere moves here to receive, but not to send. 0 or -errno. */
static int watch(struct worker *w, struct conn *c, bool want_write)
{
    uint32_t epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                .data.u64 = (uintptr_t)c | (uint64_t)epoch << EPOCH_SHIFT};
    uint16_t at = atomic_load_explicit(&c->worker, memory_order_relaxed);
    int operation = EPOLL_CTL_ADD;

    if (want_write || (c->flags & CONN_SENDING) != 0)
        event.events |= EPOLLOUT;
    if ((c->flags & CONN_REGISTERED) != 0 && want_write) {
        w = runtime_worker(at);
        operation = EPOLL_CTL_MOD;
    } else if (c->flags & CONN_REGISTERED) {
        epoll_ctl(io_of(runtime_worker(at))->epoll, EPOLL_CTL_DEL, c->fd, &event);
    }
    conn_flags_change(c, CONN_REGISTERED, 0);
    atomic_store_explicit(&c->worker, w->index, memory_order_relaxed);
    return epoll_ctl(io_of(w)->epoll, operation, c->fd, &event) == 0 ? 0 : -errno;
}

static void list(struct worker *w, struct conn *c)
{
    struct epoll_io *io = io_of(w);

    if (atomic_fetch_or_explicit(&c->ready, READY_LISTED, memory_order_acq_rel) & READY_LISTED)
        return;
    if (io->listed_count == io->listed_size) {
        io->listed_size = MAX(io->listed_size * 2, 64u);
        io->listed = realloc(io->listed, io->listed_size * sizeof *io->listed);
        INVARIANT(io->listed != NULL);
    }
    io->listed[io->listed_count++] = (struct listed){
        c, atomic_load_explicit(&c->epoch, memory_order_relaxed)};
}

static void epoll_recv(struct worker *w, struct conn *c)
{
    if ((c->flags & CONN_REGISTERED) == 0 ||
        atomic_load_explicit(&c->worker, memory_order_relaxed) != w->index) {
        /* The registration reports what is there. */
        atomic_fetch_and_explicit(&c->ready, (uint16_t)~READY_EDGE, memory_order_relaxed);
        int error = watch(w, c, false);
        if (error != 0)
            conn_defer_result(w, c, MESSAGE_RECV, error);
        return;
    }
    /* Pairs with the one in noticed(): that saw the receive armed, or this sees what it noted. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&c->ready, memory_order_relaxed) & (READY_EDGE | READY_HANGUP))
        list(w, c);
}

enum { TOGETHER_BYTES = 1024 };

/* One slice needs no header, and few bytes cost less to put together than a list of slices costs
 * the kernel to take in. */
static ssize_t send_slices(int fd, struct output *out)
{
    struct iovec *first = &out->iov[out->first];
    struct msghdr header = {.msg_iov = first, .msg_iovlen = out->count};
    uint8_t together[TOGETHER_BYTES];
    size_t len = 0;

    if (out->count == 1)
        return send(fd, first->iov_base, first->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    for (size_t i = 0; i < out->count; i++) {
        if (first[i].iov_len > sizeof together - len)
            return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        memcpy(together + len, first[i].iov_base, first[i].iov_len);
        len += first[i].iov_len;
    }
    return send(fd, together, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* 0: all sent. -EAGAIN: the socket is full. Else the error. */
static int send_all(struct worker *w, struct conn *c)
{
    while (c->out != NULL) {
        ssize_t sent = send_slices(c->fd, c->out);

        if (sent >= 0)
            conn_advance(w, c, (size_t)sent);
        else if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
    return 0;
}

static void epoll_send(struct worker *w, struct conn *c)
{
    int result = send_all(w, c);

    if (result == 0 && (c->flags & CONN_WANT_SENT) == 0) {
        conn_flags_change(c, 0, CONN_SENDING);
        return;
    }
    if (result == -EAGAIN)
        result = watch(w, c, true) == 0 ? -EAGAIN : -ENOBUFS;
    /* The owner is in the middle of something: it learns of this by message. */
    if (result != -EAGAIN)
        conn_defer_result(w, c, MESSAGE_SENT, result);
}

static void receive_now(struct worker *w, struct conn *c)
{
    struct message m = {.kind = MESSAGE_RECV};
    struct rbuf *buf = rbuf_take(w, c->flags & CONN_BULK ? RBUF_LARGE : RBUF_SMALL);
    /* Forgotten before the attempt: what comes from now on counts. */
    unsigned ready = atomic_fetch_and_explicit(&c->ready, (uint16_t) ~(READY_EDGE | READY_HANGUP),
                                               memory_order_acq_rel);
    ssize_t got;

    do {
        got = recv(c->fd, buf->data, buf->size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    int error = errno;
    if (got <= 0) {
        rbuf_unref(w, buf);
        buf = NULL;
        if (got < 0 && (error == EAGAIN || error == EWOULDBLOCK))
            return;
        ready |= READY_HANGUP;
    }
    ready &= READY_HANGUP;
    if (buf != NULL && got == (ssize_t)buf->size)
        ready |= READY_EDGE;
    if (ready != 0)
        atomic_fetch_or_explicit(&c->ready, (uint16_t)ready, memory_order_relaxed);
    m.io.conn = c;
    m.io.conn_epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    m.io.buf = buf;
    m.io.result = got < 0 ? -error : (int32_t)got;
    conn_deliver_held(w, c, &m);
}

/* The send that waits goes on. False: the owner has closed it then, or given it away. */
static bool send_now(struct worker *w, struct conn *c)
{
    struct message m = {.kind = MESSAGE_SENT};
    struct actor *owner = atomic_load_explicit(&c->owner, memory_order_relaxed);
    uint32_t epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    int result = send_all(w, c);

    if (result == -EAGAIN)
        return true;
    m.io.conn = c;
    m.io.conn_epoch = epoch;
    m.io.result = result;
    conn_deliver_held(w, c, &m);
    return atomic_load_explicit(&c->epoch, memory_order_relaxed) == epoch &&
           atomic_load_explicit(&c->owner, memory_order_relaxed) == owner;
}

static void epoll_ready(struct worker *w, struct conn *c, uint32_t events)
{
    if ((c->flags & (CONN_SENDING | CONN_SENT_DUE)) == CONN_SENDING &&
        (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 && !send_now(w, c))
        return;
    if ((c->flags & (CONN_RECV_ARMED | CONN_RECV_DUE)) == CONN_RECV_ARMED &&
        (atomic_load_explicit(&c->ready, memory_order_relaxed) & (READY_EDGE | READY_HANGUP)) != 0)
        receive_now(w, c);
}

static void epoll_forget(struct worker *w, struct conn *c)
{
    (void)w;
    if (c->flags & CONN_REGISTERED) {
        uint16_t at = atomic_load_explicit(&c->worker, memory_order_relaxed);

        epoll_ctl(io_of(runtime_worker(at))->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    }
}

static void epoll_poll(struct worker *w, struct io_poll *poll)
{
    struct epoll_event event = {.events = poll->events | EPOLLONESHOT,
                                .data.u64 = (uintptr_t)poll | TAG_POLL};

    int operation = poll->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    poll->armed = epoll_ctl(io_of(w)->epoll, operation, poll->fd, &event) == 0;
    poll->registered = poll->keeps && poll->armed;
    if (!poll->armed)
        poll->done(w, poll, -errno);
}

static void poll_finish(struct worker *w, struct io_poll *poll, int result)
{
    if (!poll->registered)
        epoll_ctl(io_of(w)->epoll, EPOLL_CTL_DEL, poll->fd, NULL);
    poll->armed = false;
    poll->done(w, poll, result);
}

static void epoll_poll_cancel(struct worker *w, struct io_poll *poll)
{
    if (poll->armed)
        poll_finish(w, poll, -ECANCELED);
}

/* Notes what the socket is ready for. The owner is bothered only when it waits for that. */
static void noticed(struct worker *w, struct conn *c, uint32_t epoch, uint32_t events)
{
    unsigned ready = 0;
    unsigned armed = 0;

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        ready |= READY_EDGE;
        armed |= CONN_RECV_ARMED;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        ready |= READY_HANGUP;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        armed |= CONN_SENDING;
    atomic_fetch_or_explicit(&c->ready, (uint16_t)ready, memory_order_acq_rel);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the one in epoll_recv() */
    if (c->flags & armed)
        conn_event(w, c, epoch, events);
}

static void dispatch(struct worker *w, const struct epoll_event *event)
{
    uint64_t data = event->data.u64;

    if (data == TAG_WAKE) {
        uint64_t count;

        if (read(io_of(w)->event, &count, sizeof count) < 0) {
            /* Somebody's wake-up was counted in an earlier read. */
        }
        return;
    }
    if ((data & TAG_MASK) == TAG_POLL) {
        struct io_poll *poll = (struct io_poll *)(uintptr_t)(data & ~(uint64_t)TAG_MASK);

        if (poll->armed)
            poll_finish(w, poll, (int)event->events);
        return;
    }
    struct conn *c = (struct conn *)(uintptr_t)(data & (((uint64_t)1 << EPOCH_SHIFT) - 1));
    uint32_t epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    /* Closed, or moved to another worker, since the kernel reported it. */
    if ((uint16_t)epoch != (uint16_t)(data >> EPOCH_SHIFT) ||
        atomic_load_explicit(&c->worker, memory_order_relaxed) != w->index)
        return;
    noticed(w, c, epoch, event->events);
}

static void run_listed(struct worker *w)
{
    struct epoll_io *io = io_of(w);
    uint32_t count = io->listed_count;

    /* What these list again waits for the next turn, so that nobody is starved. */
    for (uint32_t i = 0; i < count; i++) {
        struct listed item = io->listed[i];

        if (atomic_load_explicit(&item.conn->epoch, memory_order_relaxed) != item.epoch)
            continue;
        /* Acquire: whoever left it on this list has armed it before. */
        atomic_fetch_and_explicit(&item.conn->ready, (uint16_t)~READY_LISTED, memory_order_acq_rel);
        if (item.conn->flags & CONN_RECV_ARMED)
            conn_event(w, item.conn, item.epoch, 0);
    }
    io->listed_count -= count;
    memmove(io->listed, io->listed + count, io->listed_count * sizeof *io->listed);
}

static void epoll_turn(struct worker *w, uint64_t until_us)
{
    struct epoll_io *io = io_of(w);
    struct epoll_event events[EVENTS];
    int timeout_ms = -1;

    if (until_us == 0 || io->listed_count > 0) {
        timeout_ms = 0;
    } else if (until_us != UINT64_MAX) {
        uint64_t now = clock_us();
        uint64_t left_ms = until_us > now ? (until_us - now + 999) / 1000 : 0;

        timeout_ms = (int)MIN(left_ms, (uint64_t)60000);
    }
    w->counters.waits += timeout_ms != 0;
    w->counters.submissions++;
    int count = epoll_wait(io->epoll, events, EVENTS, timeout_ms);
    worker_awake(w);
    for (int i = 0; i < count; i++)
        dispatch(w, &events[i]);
    if (io->listed_count > 0)
        run_listed(w);
}

struct io_engine io_epoll_engine = {
    .name = "epoll",
    .init = epoll_start,
    .fini = epoll_stop,
    .recv = epoll_recv,
    .send = epoll_send,
    .forget = epoll_forget,
    .poll = epoll_poll,
    .poll_cancel = epoll_poll_cancel,
    .ready = epoll_ready,
    .turn = epoll_turn,
    .wake = epoll_wake,
    .cancels = false,
};
