/* The io_uring engine's sends: most are over when they have been submitted, and nothing is heard of
 * them. */
#include "runtime/uring_internal.h"

#include <errno.h>

static void send_prompt(struct uring_io *io, struct conn *c, struct io_uring_sqe *sqe)
{
    unsigned slot = io->prompt_count++;

    io->prompts[slot] = (struct prompt){c, sqe, (int32_t)c->out->in_flight};
    /* With both flags a part of it counts as failure, and is told. */
    sqe->msg_flags |= MSG_DONTWAIT;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = (uint64_t)slot << TAG_BITS | TAG_PROMPT;
}

void uring_send(struct worker *w, struct conn *c)
{
    struct uring_io *io = uring_of(w);
    struct io_uring_sqe *sqe = uring_take(io);
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
        uring_tag(sqe, c, TAG_SEND);
        return;
    }
    out->quiet_worker = (uint16_t)(w->index + 1u);
    out->quiet_slot = (uint16_t)io->prompt_count;
    send_prompt(io, c, sqe);
}

/* Somebody needs to hear of the end of the send in flight. Not submitted yet, it can be made to
 * report; else it is over, and only its worker sleeps on the news. */
void uring_hurry(struct worker *w, struct conn *c)
{
    const struct output *out = c->out;

    if (out == NULL || out->quiet_worker == 0)
        return;
    if (out->quiet_worker != w->index + 1u) {
        uring_wake(runtime_worker(out->quiet_worker - 1u));
        return;
    }
    struct uring_io *io = uring_of(w);
    struct prompt *prompt = &io->prompts[out->quiet_slot];
    if (out->quiet_slot < io->prompt_count && prompt->conn == c && prompt->sqe != NULL)
        prompt->sqe->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
}

/* What completions say of prompts. They came with the submission, so all are there, unless the
 * queue was too small. False: some may be missing.
 *
 * Only what has been looked at here may be reaped after it: handlers may fill the submission queue,
 * and what is submitted then has prompts of its own, under the same slots. */
bool uring_note_prompts(struct uring_io *io)
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
void uring_finish_prompts(struct worker *w)
{
    struct uring_io *io = uring_of(w);
    struct prompt ended[PROMPTS_MAX];
    unsigned count = io->prompt_count;

    if (count == 0)
        return;
    io->unsettled = !uring_note_prompts(io);
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
