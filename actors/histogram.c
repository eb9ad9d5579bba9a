#include "actors/histogram.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

/* What came within one slot, from the first bucket that is not empty to the last. */
struct slot {
    uint64_t *counts; /* NULL: nothing */
    uint32_t from;
    uint32_t buckets;
};

struct histogram_window {
    pthread_mutex_t lock;
    struct slot slots[HISTOGRAM_SLOTS];
    uint32_t next;
    uint64_t rolled_count; /* of the sums below */
    uint64_t *rolled;      /* sums over the shards at the last roll; NULL: all 0 */
};

void histogram_init(struct histogram *h, unsigned shards)
{
    /* Mapped, not allocated: pages come zeroed, aligned, and only where counts fall. */
    void *map = mmap(NULL, shards * sizeof *h->shards, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    INVARIANT(map != MAP_FAILED);
    *h = (struct histogram){map, shards, calloc(1, sizeof *h->window)};
    INVARIANT(h->window != NULL);
    pthread_mutex_init(&h->window->lock, NULL);
}

void histogram_free(struct histogram *h)
{
    for (int i = 0; i < HISTOGRAM_SLOTS; i++)
        free(h->window->slots[i].counts);
    free(h->window->rolled);
    free(h->window);
    munmap(h->shards, h->shard_count * sizeof *h->shards);
    *h = (struct histogram){0};
}

uint64_t histogram_bucket_high(uint32_t bucket)
{
    if (bucket < HISTOGRAM_EXACT)
        return bucket;
    uint32_t above = bucket - HISTOGRAM_EXACT;
    uint32_t doubling = above / HISTOGRAM_DIVISIONS;
    uint64_t low = (uint64_t)(HISTOGRAM_DIVISIONS + above % HISTOGRAM_DIVISIONS) << (doubling + 1);

    return low + (2ull << doubling) - 1;
}

/* --- reading --- */

void histogram_total(const struct histogram *h, struct histogram_view *out)
{
    *out = (struct histogram_view){.count = 0};
    for (unsigned shard = 0; shard < h->shard_count; shard++) {
        for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
            out->counts[i] += __atomic_load_n(&h->shards[shard].counts[i], __ATOMIC_RELAXED);
    }
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        out->count += out->counts[i];
}

/* With the lock: takes off what had come when the window was last rolled. */
static void since_roll(const struct histogram_window *win, struct histogram_view *view)
{
    if (win->rolled == NULL)
        return;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        view->counts[i] -= win->rolled[i];
    view->count -= win->rolled_count;
}

static void add_slot(const struct slot *slot, struct histogram_view *view)
{
    for (uint32_t i = 0; i < slot->buckets; i++) {
        view->counts[slot->from + i] += slot->counts[i];
        view->count += slot->counts[i];
    }
}

void histogram_recent(const struct histogram *h, struct histogram_view *out)
{
    struct histogram_window *win = h->window;

    pthread_mutex_lock(&win->lock);
    histogram_total(h, out);
    since_roll(win, out);
    for (int i = 0; i < HISTOGRAM_SLOTS; i++)
        add_slot(&win->slots[i], out);
    pthread_mutex_unlock(&win->lock);
}

/* --- rolling --- */

static struct slot slot_of(const struct histogram_view *view)
{
    uint32_t from = 0;
    uint32_t end = HISTOGRAM_BUCKETS;

    if (view->count == 0)
        return (struct slot){0};
    while (view->counts[from] == 0)
        from++;
    while (view->counts[end - 1] == 0)
        end--;
    struct slot slot = {calloc(end - from, sizeof(uint64_t)), from, end - from};
    INVARIANT(slot.counts != NULL);
    memcpy(slot.counts, view->counts + from, slot.buckets * sizeof(uint64_t));
    return slot;
}

static void remember(struct histogram_window *win, const struct histogram_view *total)
{
    if (win->rolled == NULL)
        win->rolled = calloc(HISTOGRAM_BUCKETS, sizeof(uint64_t));
    INVARIANT(win->rolled != NULL);
    memcpy(win->rolled, total->counts, sizeof total->counts);
    win->rolled_count = total->count;
}

void histogram_adopt(struct histogram *h, unsigned shard, const struct histogram_view *total,
                     const struct histogram_view *recent)
{
    struct histogram_window *win = h->window;
    struct histogram_view none = {.count = 0};

    if (total->count == 0)
        return;
    pthread_mutex_lock(&win->lock);
    if (win->rolled == NULL)
        remember(win, &none);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        h->shards[shard].counts[i] += total->counts[i];
        win->rolled[i] += total->counts[i] - recent->counts[i];
    }
    win->rolled_count += total->count - recent->count;
    pthread_mutex_unlock(&win->lock);
}

void histogram_roll(struct histogram *h)
{
    struct histogram_window *win = h->window;
    struct histogram_view total;

    pthread_mutex_lock(&win->lock);
    struct slot *slot = &win->slots[win->next];
    win->next = (win->next + 1) % HISTOGRAM_SLOTS;
    free(slot->counts);
    histogram_total(h, &total);
    struct histogram_view news = total;
    since_roll(win, &news);
    *slot = slot_of(&news);
    if (news.count > 0)
        remember(win, &total);
    pthread_mutex_unlock(&win->lock);
}

/* --- questions --- */

uint64_t histogram_quantile(const struct histogram_view *view, uint32_t per_mille)
{
    uint64_t rank = MAX((view->count * per_mille + 999) / 1000, 1ull);
    uint64_t seen = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && view->count > 0; i++) {
        seen += view->counts[i];
        if (seen >= rank)
            return histogram_bucket_high(i);
    }
    return 0;
}

uint64_t histogram_at_most(const struct histogram_view *view, uint64_t value_us)
{
    uint32_t last = histogram_bucket(value_us);
    uint64_t seen = 0;

    for (uint32_t i = 0; i <= last; i++)
        seen += view->counts[i];
    return seen;
}
