/* The io_uring engine while the world stands: what is in flight comes back. */
#include "runtime/uring_internal.h"

#include <errno.h>

static void complete_held(struct worker *w, const struct io_uring_cqe *cqe)
{
    struct conn *c = (struct conn *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);
    uint64_t tag = cqe->user_data & TAG_MASK;

    if (tag > TAG_SEND || atomic_load_explicit(&c->waiting, memory_order_relaxed) != 0) {
        uring_complete(w, cqe);
        return;
    }
    if (tag == TAG_SEND) {
        conn_held_send(w, c, cqe->res);
        return;
    }
    struct rbuf *buf = NULL;
    if (cqe->flags & IORING_CQE_F_BUFFER)
        buf = uring_block(w, tag == TAG_RECV_LARGE ? RBUF_LARGE : RBUF_SMALL, cqe->flags);
    if (buf != NULL && cqe->res <= 0) {
        rbuf_unref(w, buf);
        buf = NULL;
    }
    conn_held_recv(w, c, buf, cqe->res, cqe->flags & IORING_CQE_F_SOCK_NONEMPTY);
}

static void finish_prompts_held(struct worker *w)
{
    struct uring_io *io = uring_of(w);
    unsigned count = io->prompt_count;

    io->unsettled = !uring_note_prompts(io);
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
    struct uring_io *io = uring_of(w);
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;

    io_uring_submit_and_get_events(&io->ring);
    for (unsigned i = 0; i < io->prompt_count; i++)
        io->prompts[i].sqe = NULL;
    unsigned came = io_uring_cq_ready(&io->ring);
    finish_prompts_held(w);
    io_uring_for_each_cqe(&io->ring, head, cqe)
    {
        struct io_uring_cqe copy = *cqe;

        if (count == came)
            break;
        count++;
        complete_held(w, &copy);
    }
    io_uring_cq_advance(&io->ring, count);
    uring_publish(io);
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
    struct io_uring_sqe *sqe = uring_take(uring_of(w));

    io_uring_prep_cancel64(sqe, (uintptr_t)c | tag, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    uring_tag(sqe, NULL, TAG_IGNORE);
}

/* All that is submitted at once comes back at once, whether it was cancelled or had ended. */
void uring_hold(struct worker *w, struct conn *const *conns, size_t count, bool sends)
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
    while (uring_of(w)->prompt_count > 0)
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
