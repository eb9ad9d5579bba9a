/* The io_uring engine: one ring per worker (single issuer, deferred task work), received bytes in
 * blocks that the kernel picks when they come, sends and the receives behind them submitted with
 * one system call for all sessions of a turn. */
#include "runtime/io.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SUBMISSIONS = 1024,
    COMPLETIONS = 8192,
    SMALL_BLOCKS = 128, /* powers of two: how many the kernel may fill in one turn */
    LARGE_BLOCKS = 16,
};

/* The low bits of a completion's user data; pointers are aligned to eight. */
enum {
    TAG_RECV_SMALL,
    TAG_RECV_LARGE,
    TAG_SEND,
    TAG_PROMPT,
    TAG_POLL,
    TAG_WAKE,
    TAG_IGNORE,
    TAG_MASK = 7,
    TAG_BITS = 3,
};

/* A send that is over when it has been submitted: it does not wait for room in the socket, and says
 * something only when it could not send all (or was hurried). Mostly it can; and since success
 * posts no completion, the submission that carries it can go to sleep at once. The price is that
 * nobody hears of success before the worker wakes for something else: uring_hurry(). */
struct prompt {
    struct conn *conn;
    struct io_uring_sqe *sqe; /* NULL: submitted */
    int32_t result;           /* bytes, as hoped; or what the completion says */
};

enum {
    PROMPTS_MAX = 256,        /* in one turn; further sends report as usual */
    PROMPT_BYTES_MAX = 32768, /* more may not fit into the socket */
};

struct block_ring {
    struct io_uring_buf_ring *ring;
    struct rbuf **slots;
    unsigned count;
    unsigned added; /* not yet shown to the kernel */
};

struct uring_io {
    struct io_uring ring;
    struct block_ring blocks[RBUF_CLASSES];
    int event;
    uint64_t event_count;
    struct prompt prompts[PROMPTS_MAX];
    unsigned prompt_count;
    bool unsettled; /* prompts were submitted in the middle of a turn: no sleep before a look */
};

static struct uring_io *io_of(struct worker *w)
{
    return w->io;
}

static struct io_uring_sqe *sqe_take(struct uring_io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);

    while (UNLIKELY(sqe == NULL)) {
        io_uring_submit(&io->ring);
        for (unsigned i = 0; i < io->prompt_count; i++)
            io->prompts[i].sqe = NULL;
        io->unsettled = true;
        sqe = io_uring_get_sqe(&io->ring);
    }
    return sqe;
}

static void sqe_data(struct io_uring_sqe *sqe, const void *p, unsigned tag)
{
    sqe->user_data = (uintptr_t)p | tag;
}

static int blocks_start(struct worker *w, struct block_ring *blocks, enum rbuf_class class,
                        unsigned count, struct failure *why)
{
    struct uring_io *io = io_of(w);
    size_t size = count * sizeof(struct io_uring_buf);
    void *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (ring == MAP_FAILED)
        return fail(why, "buffer ring: %s", strerror(errno));
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)ring, .ring_entries = count, .bgid = (uint16_t) class};
    int error = io_uring_register_buf_ring(&io->ring, &registration, 0);
    if (error != 0) {
        munmap(ring, size);
        return fail(why, "buffer ring: %s", strerror(-error));
    }
    blocks->ring = ring;
    blocks->count = count;
    blocks->slots = calloc(count, sizeof *blocks->slots);
    INVARIANT(blocks->slots != NULL);
    io_uring_buf_ring_init(blocks->ring);
    for (unsigned i = 0; i < count; i++) {
        blocks->slots[i] = rbuf_take(w, class);
        io_uring_buf_ring_add(blocks->ring, blocks->slots[i]->data, blocks->slots[i]->size,
                              (uint16_t)i, io_uring_buf_ring_mask(count), (int)i);
    }
    io_uring_buf_ring_advance(blocks->ring, (int)count);
    return 0;
}

static void arm_wake(struct uring_io *io)
{
    struct io_uring_sqe *sqe = sqe_take(io);

    io_uring_prep_read(sqe, io->event, &io->event_count, sizeof io->event_count, 0);
    sqe_data(sqe, NULL, TAG_WAKE);
}

static void uring_stop(struct worker *w);

static int uring_start(struct worker *w, struct failure *why)
{
    struct uring_io *io = calloc(1, sizeof *io);
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                                              IORING_SETUP_SUBMIT_ALL,
                                     .cq_entries = COMPLETIONS};

    INVARIANT(io != NULL);
    io->event = -1;
    int error = io_uring_queue_init_params(SUBMISSIONS, &io->ring, &params);
    if (error != 0) {
        free(io);
        return fail(why, "io_uring_setup: %s", strerror(-error));
    }
    w->io = io;
    io_uring_register_ring_fd(&io->ring); /* saves a look-up per call; works without */
    io->event = eventfd(0, EFD_CLOEXEC);
    if (io->event < 0 ||
        blocks_start(w, &io->blocks[RBUF_SMALL], RBUF_SMALL, SMALL_BLOCKS, why) != 0 ||
        blocks_start(w, &io->blocks[RBUF_LARGE], RBUF_LARGE, LARGE_BLOCKS, why) != 0) {
        uring_stop(w);
        return -1;
    }
    arm_wake(io);
    return 0;
}

static void uring_stop(struct worker *w)
{
    struct uring_io *io = io_of(w);

    io_uring_queue_exit(&io->ring);
    for (int class = 0; class < RBUF_CLASSES; class ++) {
        struct block_ring *blocks = &io->blocks[class];

        if (blocks->ring == NULL)
            continue;
        munmap(blocks->ring, blocks->count * sizeof(struct io_uring_buf));
        for (unsigned i = 0; i < blocks->count; i++)
            rbuf_unref(w, blocks->slots[i]);
        free(blocks->slots);
    }
    if (io->event >= 0)
        close(io->event);
    free(io);
    w->io = NULL;
}

static void uring_wake(struct worker *w)
{
    uint64_t one = 1;

    if (write(io_of(w)->event, &one, sizeof one) < 0) {
        /* Full means that a wake-up is on its way. */
    }
}

static void submit_recv(struct worker *w, struct conn *c, enum rbuf_class class, bool more)
{
    struct io_uring_sqe *sqe = sqe_take(io_of(w));

    io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (uint16_t) class;
    /* Mostly nothing is there yet: go straight to waiting, and spare the first attempt. */
    if (!more)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe_data(sqe, c, class == RBUF_LARGE ? TAG_RECV_LARGE : TAG_RECV_SMALL);
}

/* The tag is not known here for sure (a class may have been switched): both are tried. */
static void uring_recv_stop(struct worker *w, struct conn *c)
{
    for (unsigned tag = TAG_RECV_SMALL; tag <= TAG_RECV_LARGE; tag++) {
        struct io_uring_sqe *sqe = sqe_take(io_of(w));

        io_uring_prep_cancel64(sqe, (uintptr_t)c | tag, 0);
        sqe_data(sqe, NULL, TAG_IGNORE);
    }
}

static void uring_recv(struct worker *w, struct conn *c)
{
    atomic_store_explicit(&c->worker, w->index, memory_order_relaxed);
    submit_recv(w, c, c->flags & CONN_BULK ? RBUF_LARGE : RBUF_SMALL, c->flags & CONN_MORE);
}

static void send_prompt(struct uring_io *io, struct conn *c, struct io_uring_sqe *sqe)
{
    unsigned slot = io->prompt_count++;

    io->prompts[slot] = (struct prompt){c, sqe, (int32_t)c->out->in_flight};
    /* With both flags a part of it counts as failure, and is told. */
    sqe->msg_flags |= MSG_DONTWAIT;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = (uint64_t)slot << TAG_BITS | TAG_PROMPT;
}

static void uring_send(struct worker *w, struct conn *c)
{
    struct uring_io *io = io_of(w);
    struct io_uring_sqe *sqe = sqe_take(io);
    struct output *out = c->out;
    const struct iovec *head = &out->iov[out->first];

    /* MSG_WAITALL: the kernel goes on until all was taken, so a short send is an error. */
    out->in_flight = (uint32_t)head->iov_len;
    if (out->count == 1) {
        io_uring_prep_send(sqe, c->fd, head->iov_base, head->iov_len, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        out->header = (struct msghdr){.msg_iov = &out->iov[out->first], .msg_iovlen = out->count};
        io_uring_prep_sendmsg(sqe, c->fd, &out->header, MSG_NOSIGNAL | MSG_WAITALL);
        for (unsigned i = 1; i < out->count; i++)
            out->in_flight += (uint32_t)head[i].iov_len;
    }
    out->quiet_worker = 0;
    bool awaited = c->out_bytes > out->in_flight || (c->flags & CONN_WANT_SENT) != 0;
    if (awaited || out->blocked || out->in_flight > PROMPT_BYTES_MAX ||
        io->prompt_count == PROMPTS_MAX) {
        sqe_data(sqe, c, TAG_SEND);
        return;
    }
    out->quiet_worker = (uint16_t)(w->index + 1u);
    out->quiet_slot = (uint16_t)io->prompt_count;
    send_prompt(io, c, sqe);
}

/* Somebody needs to hear of the end of the send in flight. Not submitted yet, it can be made to
 * report; else it is over, and only its worker sleeps on the news. */
static void uring_hurry(struct worker *w, struct conn *c)
{
    const struct output *out = c->out;

    if (out == NULL || out->quiet_worker == 0)
        return;
    if (out->quiet_worker != w->index + 1u) {
        uring_wake(runtime_worker(out->quiet_worker - 1u));
        return;
    }
    struct uring_io *io = io_of(w);
    struct prompt *prompt = &io->prompts[out->quiet_slot];
    if (out->quiet_slot < io->prompt_count && prompt->conn == c && prompt->sqe != NULL)
        prompt->sqe->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
}

/* What completions say of prompts. They came with the submission, so all are there, unless the
 * queue was too small. False: some may be missing.
 *
 * Only what has been looked at here may be reaped after it: handlers may fill the submission queue,
 * and what is submitted then has prompts of its own, under the same slots. */
static bool prompts_note(struct uring_io *io)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    io_uring_for_each_cqe(&io->ring, head, cqe)
    {
        if ((cqe->user_data & TAG_MASK) == TAG_PROMPT)
            io->prompts[cqe->user_data >> TAG_BITS].result = cqe->res;
    }
    return !io_uring_cq_has_overflow(&io->ring);
}

/* Before anything else that happened is looked at: who gets bytes finds its sends ended. */
static void prompts_finish(struct worker *w)
{
    struct uring_io *io = io_of(w);
    struct prompt ended[PROMPTS_MAX];
    unsigned count = io->prompt_count;

    if (count == 0)
        return;
    io->unsettled = !prompts_note(io);
    if (UNLIKELY(io->unsettled))
        return;
    memcpy(ended, io->prompts, count * sizeof *ended);
    io->prompt_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct conn *c = ended[i].conn;

        if (UNLIKELY(ended[i].result == -EAGAIN)) { /* no room: the next attempt waits for it */
            c->out->blocked = true;
            ended[i].result = 0;
        }
        conn_send_done(w, c, ended[i].result);
    }
}

static void uring_forget(struct worker *w, struct conn *c)
{
    (void)w;
    (void)c; /* nothing is in flight, and nothing was registered */
}

static void uring_poll(struct worker *w, struct io_poll *poll)
{
    struct io_uring_sqe *sqe = sqe_take(io_of(w));

    io_uring_prep_poll_add(sqe, poll->fd, poll->events);
    sqe_data(sqe, poll, TAG_POLL);
    poll->armed = true;
}

static void uring_poll_cancel(struct worker *w, struct io_poll *poll)
{
    if (!poll->armed)
        return;
    struct io_uring_sqe *sqe = sqe_take(io_of(w));

    io_uring_prep_cancel64(sqe, (uintptr_t)poll | TAG_POLL, 0);
    sqe_data(sqe, NULL, TAG_IGNORE);
}

/* The block that the kernel filled; its place in the ring gets a fresh one at once, so that blocks
 * in use never starve the ring. */
static struct rbuf *block_taken(struct worker *w, enum rbuf_class class, uint32_t cqe_flags)
{
    struct block_ring *blocks = &io_of(w)->blocks[class];
    unsigned slot = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    struct rbuf *taken = blocks->slots[slot];

    blocks->slots[slot] = rbuf_take(w, class);
    io_uring_buf_ring_add(blocks->ring, blocks->slots[slot]->data, blocks->slots[slot]->size,
                          (uint16_t)slot, io_uring_buf_ring_mask(blocks->count),
                          (int)blocks->added++);
    return taken;
}

static void blocks_publish(struct uring_io *io)
{
    for (int class = 0; class < RBUF_CLASSES; class ++) {
        struct block_ring *blocks = &io->blocks[class];

        if (blocks->added > 0) {
            io_uring_buf_ring_advance(blocks->ring, (int)blocks->added);
            blocks->added = 0;
        }
    }
}

static void received(struct worker *w, struct conn *c, enum rbuf_class class, int32_t result,
                     uint32_t flags)
{
    struct rbuf *buf = NULL;

    if (flags & IORING_CQE_F_BUFFER)
        buf = block_taken(w, class, flags);
    if (UNLIKELY(result <= 0)) {
        if (buf != NULL)
            rbuf_unref(w, buf);
        buf = NULL;
        if (result == -ENOBUFS || result == -EINTR || result == -EAGAIN) {
            blocks_publish(io_of(w));
            submit_recv(w, c, class, true);
            return;
        }
    }
    conn_received(w, c, buf, result, flags & IORING_CQE_F_SOCK_NONEMPTY);
}

static void complete(struct worker *w, const struct io_uring_cqe *cqe)
{
    void *p = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);

    switch (cqe->user_data & TAG_MASK) {
    case TAG_RECV_SMALL: received(w, p, RBUF_SMALL, cqe->res, cqe->flags); return;
    case TAG_RECV_LARGE: received(w, p, RBUF_LARGE, cqe->res, cqe->flags); return;
    case TAG_SEND: conn_send_done(w, p, cqe->res); return;
    case TAG_PROMPT: return; /* prompts_note() */
    case TAG_POLL: {
        struct io_poll *poll = p;

        poll->armed = false;
        poll->done(w, poll, cqe->res);
        return;
    }
    case TAG_WAKE: arm_wake(io_of(w)); return;
    default: return;
    }
}

/* --- while the world stands --- */

static void complete_held(struct worker *w, const struct io_uring_cqe *cqe)
{
    struct conn *c = (struct conn *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);
    uint64_t tag = cqe->user_data & TAG_MASK;

    if (tag > TAG_SEND || atomic_load_explicit(&c->waiting, memory_order_relaxed) != 0) {
        complete(w, cqe);
        return;
    }
    if (tag == TAG_SEND) {
        conn_held_send(w, c, cqe->res);
        return;
    }
    struct rbuf *buf = NULL;
    if (cqe->flags & IORING_CQE_F_BUFFER)
        buf = block_taken(w, tag == TAG_RECV_LARGE ? RBUF_LARGE : RBUF_SMALL, cqe->flags);
    if (buf != NULL && cqe->res <= 0) {
        rbuf_unref(w, buf);
        buf = NULL;
    }
    conn_held_recv(w, c, buf, cqe->res, cqe->flags & IORING_CQE_F_SOCK_NONEMPTY);
}

static void prompts_finish_held(struct worker *w)
{
    struct uring_io *io = io_of(w);
    unsigned count = io->prompt_count;

    io->unsettled = !prompts_note(io);
    if (io->unsettled)
        return;
    io->prompt_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct conn *c = io->prompts[i].conn;
        int32_t result = io->prompts[i].result;

        if (result == -EAGAIN) {
            c->out->blocked = true;
            result = 0;
        }
        if (atomic_load_explicit(&c->waiting, memory_order_relaxed) != 0)
            conn_send_done(w, c, result);
        else
            conn_held_send(w, c, result);
    }
}

static void reap_held(struct worker *w)
{
    struct uring_io *io = io_of(w);
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;

    io_uring_submit_and_get_events(&io->ring);
    for (unsigned i = 0; i < io->prompt_count; i++)
        io->prompts[i].sqe = NULL;
    unsigned came = io_uring_cq_ready(&io->ring);
    prompts_finish_held(w);
    io_uring_for_each_cqe(&io->ring, head, cqe)
    {
        struct io_uring_cqe copy = *cqe;

        if (count == came)
            break;
        count++;
        complete_held(w, &copy);
    }
    io_uring_cq_advance(&io->ring, count);
    blocks_publish(io);
}

/* In flight at this worker, as far as that is known: of a send it is not, and somebody else's is
 * not found. */
static bool in_flight(const struct worker *w, const struct conn *c, bool send)
{
    if (send)
        return (c->flags & (CONN_SENDING | CONN_SENT_DUE)) == CONN_SENDING;
    return (c->flags & (CONN_RECV_ARMED | CONN_RECV_DUE)) == CONN_RECV_ARMED &&
           atomic_load_explicit(&c->worker, memory_order_relaxed) == w->index;
}

static void cancel_held(struct worker *w, const struct conn *c, unsigned tag)
{
    struct io_uring_sqe *sqe = sqe_take(io_of(w));

    io_uring_prep_cancel64(sqe, (uintptr_t)c | tag, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe_data(sqe, NULL, TAG_IGNORE);
}

/* All that is submitted at once comes back at once, whether it was cancelled or had ended. */
static void uring_hold(struct worker *w, struct conn *const *conns, size_t count, bool sends)
{
    enum { PER_SUBMISSION = SUBMISSIONS / 4 };
    size_t since = 0;

    reap_held(w);
    for (size_t i = 0; i < count; i++) {
        if (!in_flight(w, conns[i], sends))
            continue;
        if (sends)
            cancel_held(w, conns[i], TAG_SEND);
        else
            cancel_held(w, conns[i], conns[i]->flags & CONN_BULK ? TAG_RECV_LARGE : TAG_RECV_SMALL);
        if (++since % PER_SUBMISSION == 0)
            reap_held(w);
    }
    reap_held(w);
    while (io_of(w)->prompt_count > 0)
        reap_held(w);
    for (size_t i = 0; i < count && !sends; i++) {
        /* It may have been armed with the other class. */
        while (in_flight(w, conns[i], false)) {
            cancel_held(w, conns[i], TAG_RECV_SMALL);
            cancel_held(w, conns[i], TAG_RECV_LARGE);
            reap_held(w);
        }
    }
}

static void submit_and_wait(struct uring_io *io, uint64_t until_us)
{
    if (until_us == 0) {
        io_uring_submit_and_get_events(&io->ring);
        return;
    }
    if (until_us == UINT64_MAX) {
        io_uring_submit_and_wait(&io->ring, 1);
        return;
    }
    uint64_t now = clock_us();
    uint64_t left = until_us > now ? until_us - now : 0;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(left / 1000000),
                                        .tv_nsec = (long long)(left % 1000000) * 1000};
    struct io_uring_cqe *first;
    io_uring_submit_and_wait_timeout(&io->ring, &first, 1, &timeout, NULL);
}

static void uring_turn(struct worker *w, uint64_t until_us)
{
    struct uring_io *io = io_of(w);
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;

    if (UNLIKELY(io->unsettled))
        until_us = 0;
    w->counters.waits += until_us != 0;
    w->counters.submissions++;
    submit_and_wait(io, until_us);
    for (unsigned i = 0; i < io->prompt_count; i++)
        io->prompts[i].sqe = NULL;
    worker_awake(w);
    unsigned came = io_uring_cq_ready(&io->ring);
    prompts_finish(w);
    io_uring_for_each_cqe(&io->ring, head, cqe)
    {
        struct io_uring_cqe copy = *cqe;

        if (count == came)
            break;
        count++;
        complete(w, &copy);
    }
    io_uring_cq_advance(&io->ring, count);
    blocks_publish(io);
}

struct io_engine io_uring_engine = {
    .name = "io_uring",
    .init = uring_start,
    .fini = uring_stop,
    .recv = uring_recv,
    .recv_stop = uring_recv_stop,
    .send = uring_send,
    .hurry = uring_hurry,
    .forget = uring_forget,
    .hold = uring_hold,
    .poll = uring_poll,
    .poll_cancel = uring_poll_cancel,
    .turn = uring_turn,
    .wake = uring_wake,
    .cancels = true,
};
