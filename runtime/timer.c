#include "runtime/timer.h"

#include <stdlib.h>

static void put(struct timer_heap *h, uint32_t place, struct timer *timer)
{
    h->heap[place] = timer;
    timer->place = place;
}

static void sift_up(struct timer_heap *h, uint32_t place, struct timer *timer)
{
    while (place > 1 && h->heap[place / 2]->at_us > timer->at_us) {
        put(h, place, h->heap[place / 2]);
        place /= 2;
    }
    put(h, place, timer);
}

static void sift_down(struct timer_heap *h, uint32_t place, struct timer *timer)
{
    for (;;) {
        uint32_t child = place * 2;

        if (child > h->count)
            break;
        if (child < h->count && h->heap[child + 1]->at_us < h->heap[child]->at_us)
            child++;
        if (h->heap[child]->at_us >= timer->at_us)
            break;
        put(h, place, h->heap[child]);
        place = child;
    }
    put(h, place, timer);
}

void timer_arm(struct timer_heap *h, struct timer *timer, uint64_t at_us)
{
    if (timer->place != 0)
        timer_disarm(h, timer);
    if (h->count + 1 >= h->size) {
        uint32_t size = MAX(h->size * 2, 64u);
        struct timer **grown = realloc(h->heap, size * sizeof *grown);

        INVARIANT(grown != NULL);
        h->heap = grown;
        h->size = size;
    }
    timer->at_us = at_us;
    sift_up(h, ++h->count, timer);
    DEBUG_CHECK(timer_heap_valid(h));
}

void timer_disarm(struct timer_heap *h, struct timer *timer)
{
    uint32_t place = timer->place;

    if (place == 0)
        return;
    INVARIANT(place <= h->count && h->heap[place] == timer);
    timer->place = 0;
    struct timer *last = h->heap[h->count--];
    if (last == timer)
        return;
    if (place > 1 && h->heap[place / 2]->at_us > last->at_us)
        sift_up(h, place, last);
    else
        sift_down(h, place, last);
}

void timer_run(struct timer_heap *h, struct worker *w, uint64_t now_us)
{
    while (h->count > 0 && h->heap[1]->at_us <= now_us) {
        struct timer *due = h->heap[1];

        timer_disarm(h, due);
        due->fire(w, due);
    }
}

void timer_heap_free(struct timer_heap *h)
{
    free(h->heap);
    *h = (struct timer_heap){0};
}

bool timer_heap_valid(const struct timer_heap *h)
{
    for (uint32_t place = 1; place <= h->count; place++) {
        if (h->heap[place]->place != place)
            return false;
        if (place > 1 && h->heap[place / 2]->at_us > h->heap[place]->at_us)
            return false;
    }
    return true;
}
