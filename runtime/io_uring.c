/* The io_uring engine: one ring per worker (single issuer, deferred task work), received bytes in
 * blocks that the kernel picks when they come, sends and the receives behind them submitted with
 * one system call for all sessions of a turn. */
#include "runtime/uring_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int blocks_start(struct worker *w, struct block_ring *blocks, enum rbuf_class class,
                        unsigned count, struct failure *why)
{
    struct uring_io *io = uring_of(w);
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
    struct io_uring_sqe *sqe = uring_take(io);

    io_uring_prep_read(sqe, io->event, &io->event_count, sizeof io->event_count, 0);
    uring_tag(sqe, NULL, TAG_WAKE);
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
    struct uring_io *io = uring_of(w);

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

void uring_wake(struct worker *w)
{
    uint64_t one = 1;

    if (write(uring_of(w)->event, &one, sizeof one) < 0) {
        /* Full means that a wake-up is on its way. */
    }
}

static void submit_recv(struct worker *w, struct conn *c, enum rbuf_class class, bool more)
{
    struct io_uring_sqe *sqe = uring_take(uring_of(w));

    io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (uint16_t) class;
    /* Mostly nothing is there yet: go straight to waiting, and spare the first attempt. */
    if (!more)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    uring_tag(sqe, c, class == RBUF_LARGE ? TAG_RECV_LARGE : TAG_RECV_SMALL);
}

/* The tag is not known here for sure (a class may have been switched): both are tried. */
static void uring_recv_stop(struct worker *w, struct conn *c)
{
    for (unsigned tag = TAG_RECV_SMALL; tag <= TAG_RECV_LARGE; tag++) {
        struct io_uring_sqe *sqe = uring_take(uring_of(w));

        io_uring_prep_cancel64(sqe, (uintptr_t)c | tag, 0);
        uring_tag(sqe, NULL, TAG_IGNORE);
    }
}

static void uring_recv(struct worker *w, struct conn *c)
{
    atomic_store_explicit(&c->worker, w->index, memory_order_relaxed);
    submit_recv(w, c, c->flags & CONN_BULK ? RBUF_LARGE : RBUF_SMALL, c->flags & CONN_MORE);
}

static void uring_forget(struct worker *w, struct conn *c)
{
    (void)w;
    (void)c; /* nothing is in flight, and nothing was registered */
}

static void uring_poll(struct worker *w, struct io_poll *poll)
{
    struct io_uring_sqe *sqe = uring_take(uring_of(w));

    io_uring_prep_poll_add(sqe, poll->fd, poll->events);
    uring_tag(sqe, poll, TAG_POLL);
    poll->armed = true;
}

static void uring_poll_cancel(struct worker *w, struct io_poll *poll)
{
    if (!poll->armed)
        return;
    struct io_uring_sqe *sqe = uring_take(uring_of(w));

    io_uring_prep_cancel64(sqe, (uintptr_t)poll | TAG_POLL, 0);
    uring_tag(sqe, NULL, TAG_IGNORE);
}

static void received(struct worker *w, struct conn *c, enum rbuf_class class, int32_t result,
                     uint32_t flags)
{
    struct rbuf *buf = NULL;

    if (flags & IORING_CQE_F_BUFFER)
        buf = uring_block(w, class, flags);
    if (UNLIKELY(result <= 0)) {
        if (buf != NULL)
            rbuf_unref(w, buf);
        buf = NULL;
        if (result == -ENOBUFS || result == -EINTR || result == -EAGAIN) {
            uring_publish(uring_of(w));
            submit_recv(w, c, class, true);
            return;
        }
    }
    conn_received(w, c, buf, result, flags & IORING_CQE_F_SOCK_NONEMPTY);
}

void uring_complete(struct worker *w, const struct io_uring_cqe *cqe)
{
    void *p = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);

    switch (cqe->user_data & TAG_MASK) {
    case TAG_RECV_SMALL: received(w, p, RBUF_SMALL, cqe->res, cqe->flags); return;
    case TAG_RECV_LARGE: received(w, p, RBUF_LARGE, cqe->res, cqe->flags); return;
    case TAG_SEND: conn_send_done(w, p, cqe->res); return;
    case TAG_PROMPT: return; /* uring_note_prompts() */
    case TAG_POLL: {
        struct io_poll *poll = p;

        poll->armed = false;
        poll->done(w, poll, cqe->res);
        return;
    }
    case TAG_WAKE: arm_wake(uring_of(w)); return;
    default: return;
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
    struct uring_io *io = uring_of(w);
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
    uring_finish_prompts(w);
    io_uring_for_each_cqe(&io->ring, head, cqe)
    {
        struct io_uring_cqe copy = *cqe;

        if (count == came)
            break;
        count++;
        uring_complete(w, &copy);
    }
    io_uring_cq_advance(&io->ring, count);
    uring_publish(io);
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
