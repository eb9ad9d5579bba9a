/* histogram.h: how long things took, as counts by size.
 *
 * Log-linear buckets (as in HdrHistogram by Gil Tene): every value up to 127 us has its own, then
 * each doubling is divided into 64, so a bucket is never wider than 1/64 of what it holds (1.6 %).
 * A histogram has one shard per worker, which that worker alone writes: a plain addition into
 * memory that nobody else's shard shares a cache line with. Counts are never reset, so no sample
 * is lost: readers add the shards up and look at differences.
 *
 * The window: histogram_roll(), called every HISTOGRAM_SLOT_US, puts what came since the last call
 * into a ring of HISTOGRAM_SLOTS slots. What the window tells is these and what came after them.
 */
#ifndef ACTORS_HISTOGRAM_H
#define ACTORS_HISTOGRAM_H

#include "runtime/base.h"

enum {
    HISTOGRAM_EXACT = 128,    /* values below have a bucket each */
    HISTOGRAM_DIVISIONS = 64, /* of each doubling above */
    HISTOGRAM_DOUBLINGS = 23, /* 128 us to 2^30 us, almost 18 minutes; larger ones count as that */
    HISTOGRAM_BUCKETS = HISTOGRAM_EXACT + HISTOGRAM_DIVISIONS * HISTOGRAM_DOUBLINGS,
    HISTOGRAM_SLOTS = 5,
    HISTOGRAM_SLOT_US = 3000000,
};
#define HISTOGRAM_MAX_US ((1ull << 30) - 1)

struct histogram_shard {
    uint64_t counts[HISTOGRAM_BUCKETS];
} __attribute__((aligned(CACHE_LINE)));

struct histogram_window; /* the ring; the readers' alone, behind a lock of theirs */

struct histogram {
    struct histogram_shard *shards;
    unsigned shard_count;
    struct histogram_window *window;
};

/* Prepares *h with so many shards. Memory of values that never come is never touched, so it costs
 * addresses only. Ends the process when there is none. */
void histogram_init(struct histogram *h, unsigned shards);
/* Nobody may use it any more. */
void histogram_free(struct histogram *h);

static inline uint32_t histogram_bucket(uint64_t value_us)
{
    if (value_us < HISTOGRAM_EXACT)
        return (uint32_t)value_us;
    if (value_us > HISTOGRAM_MAX_US)
        value_us = HISTOGRAM_MAX_US;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(value_us); /* 7 to 29 */
    return HISTOGRAM_EXACT + (power - 7) * HISTOGRAM_DIVISIONS +
           ((uint32_t)(value_us >> (power - 6)) & (HISTOGRAM_DIVISIONS - 1));
}
/* The highest value that falls into it. */
uint64_t histogram_bucket_high(uint32_t bucket);

/* Counts one value. By the one thread that owns the shard; neither waits nor allocates. */
static inline void histogram_record(struct histogram *h, unsigned shard, uint64_t value_us)
{
    uint64_t *count = &h->shards[shard].counts[histogram_bucket(value_us)];

    __atomic_store_n(count, __atomic_load_n(count, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* A copy to ask questions of. */
struct histogram_view {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
};
/* All that was ever recorded. Any thread. */
void histogram_total(const struct histogram *h, struct histogram_view *out);
/* What the window holds: the last 15 to 18 seconds. Any thread; waits for other readers only. */
void histogram_recent(const struct histogram *h, struct histogram_view *out);
/* Ends a slot of the window. Any thread; waits for other readers only. */
void histogram_roll(struct histogram *h);

/* Adds what another process recorded: `total`, and the part of it that its window holds, which goes
 * into this window as if it had just come. Nobody else writes to the shard meanwhile. */
void histogram_adopt(struct histogram *h, unsigned shard, const struct histogram_view *total,
                     const struct histogram_view *recent);

/* The value that a share of `per_mille` / 1000 of all does not exceed, rounded up to the end of its
 * bucket; 0 when there is none. */
uint64_t histogram_quantile(const struct histogram_view *view, uint32_t per_mille);
/* How many are at most value_us, to the precision of its bucket. */
uint64_t histogram_at_most(const struct histogram_view *view, uint64_t value_us);

#endif
