/* buffer.h: where received bytes lie: pooled blocks that a parked session does not hold.
 *
 * A block is counted by those who still need bytes in it: one reference for the receiver, one for
 * each slice in an output queue. All of them belong to one actor at a time, so the count needs no
 * atomics. Free blocks go to the list of whichever worker frees them; lists are capped, and what
 * is over goes to a shared list.
 */
#ifndef RUNTIME_BUFFER_H
#define RUNTIME_BUFFER_H

#include "runtime/base.h"

struct worker;

enum rbuf_class { RBUF_SMALL, RBUF_LARGE, RBUF_CLASSES, RBUF_EXACT = RBUF_CLASSES };
enum { RBUF_SMALL_BYTES = 4096, RBUF_LARGE_BYTES = 32768 };

struct rbuf {
    struct rbuf *next;
    uint32_t refs;
    uint32_t size; /* of data */
    uint8_t class;
    uint8_t data[] __attribute__((aligned(16)));
};

struct rbuf_cache {
    struct rbuf *free[RBUF_CLASSES];
    uint32_t count[RBUF_CLASSES];
};

/* One reference, the caller's. Never NULL. */
struct rbuf *rbuf_take(struct worker *w, enum rbuf_class class);
/* At least that many bytes: from a pooled class when it fits well, else allocated and freed. */
struct rbuf *rbuf_take_bytes(struct worker *w, size_t bytes);
/* Exactly that many, allocated: for what a parked actor has to keep. */
struct rbuf *rbuf_take_exact(size_t bytes);
static inline struct rbuf *rbuf_ref(struct rbuf *b)
{
    b->refs++;
    return b;
}
void rbuf_give(struct worker *w, struct rbuf *b); /* the last reference frees it */
static inline void rbuf_unref(struct worker *w, struct rbuf *b)
{
    if (--b->refs == 0)
        rbuf_give(w, b);
}
/* How many blocks exist, and how many are in somebody's hands (a sum over racing counters). */
uint32_t rbuf_total(void);
void rbuf_cache_free(struct rbuf_cache *cache);

#endif
