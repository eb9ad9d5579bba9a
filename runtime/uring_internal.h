/* uring_internal.h: what the files of the io_uring engine share.
 *
 * io_uring.c is the engine: its ring, what is asked of it and what comes back. uring_send.c sends,
 * and knows of sends that were submitted without waiting for their end. uring_hold.c takes what is
 * in flight out of the kernel while the world stands. All of it runs on the ring's own worker. */
#ifndef RUNTIME_URING_INTERNAL_H
#define RUNTIME_URING_INTERNAL_H

#include "runtime/io.h"

#include <liburing.h>

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

static inline struct uring_io *uring_of(struct worker *w)
{
    return w->io;
}

/* The next entry of the submission queue; when it is full, what is in it is submitted first. */
static inline struct io_uring_sqe *uring_take(struct uring_io *io)
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

static inline void uring_tag(struct io_uring_sqe *sqe, const void *p, unsigned tag)
{
    sqe->user_data = (uintptr_t)p | tag;
}

/* The block that the kernel filled; its place in the ring gets a fresh one at once, so that blocks
 * in use never starve the ring. */
static inline struct rbuf *uring_block(struct worker *w, enum rbuf_class class, uint32_t cqe_flags)
{
    struct block_ring *blocks = &uring_of(w)->blocks[class];
    unsigned slot = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    struct rbuf *taken = blocks->slots[slot];

    blocks->slots[slot] = rbuf_take(w, class);
    io_uring_buf_ring_add(blocks->ring, blocks->slots[slot]->data, blocks->slots[slot]->size,
                          (uint16_t)slot, io_uring_buf_ring_mask(blocks->count),
                          (int)blocks->added++);
    return taken;
}

static inline void uring_publish(struct uring_io *io)
{
    for (int class = 0; class < RBUF_CLASSES; class ++) {
        struct block_ring *blocks = &io->blocks[class];

        if (blocks->added > 0) {
            io_uring_buf_ring_advance(blocks->ring, (int)blocks->added);
            blocks->added = 0;
        }
    }
}

/* --- io_uring.c --- */

/* What a completion says goes to whom it is about. */
void uring_complete(struct worker *w, const struct io_uring_cqe *cqe);
/* From any thread: the worker's next sleep ends at once. */
void uring_wake(struct worker *w);

/* --- uring_send.c --- */

void uring_send(struct worker *w, struct conn *c);
void uring_hurry(struct worker *w, struct conn *c);
/* After a submission: notes what the completions so far say of the prompts. False: some may be
 * missing. */
bool uring_note_prompts(struct uring_io *io);
/* The same, and tells their connections; before anything else that came is looked at. */
void uring_finish_prompts(struct worker *w);

/* --- uring_hold.c --- */

void uring_hold(struct worker *w, struct conn *const *conns, size_t count, bool sends);

#endif
