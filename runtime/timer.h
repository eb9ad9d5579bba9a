/* timer.h: deadlines of one worker: a binary heap, earliest first. Owner thread only. The timer is
 * embedded in whoever waits; arming never allocates beyond the heap's growth. */
#ifndef RUNTIME_TIMER_H
#define RUNTIME_TIMER_H

#include "runtime/base.h"

struct worker;

struct timer {
    uint64_t at_us;
    uint32_t place; /* in the heap, from 1; 0 = not armed */
    void (*fire)(struct worker *w, struct timer *timer);
};

struct timer_heap {
    struct timer **heap; /* [1..count] */
    uint32_t count;
    uint32_t size;
};

/* An armed timer is moved. */
void timer_arm(struct timer_heap *h, struct timer *timer, uint64_t at_us);
void timer_disarm(struct timer_heap *h, struct timer *timer); /* harmless when not armed */
/* Takes out and fires all that are due. */
void timer_run(struct timer_heap *h, struct worker *w, uint64_t now_us);
static inline uint64_t timer_next_us(const struct timer_heap *h)
{
    return h->count == 0 ? UINT64_MAX : h->heap[1]->at_us;
}
void timer_heap_free(struct timer_heap *h);
/* Parents not later than children, places right. */
bool timer_heap_valid(const struct timer_heap *h);

#endif
