#define LOG_MODULE "pg_doorman::stats"
#include "actors/daemon.h"

#include "runtime/log.h"

#include <inttypes.h>
#include <stdlib.h>

/* What the counters stood at when they were last looked at. */
struct seen {
    struct seen *next;
    const struct pool_shared *shared;
    struct pool_counters at;
};

struct period {
    uint64_t us;
};

static struct seen *all_seen; /* the daemon's alone */

static struct seen *seen_of(const struct pool_shared *shared)
{
    for (struct seen *seen = all_seen; seen != NULL; seen = seen->next) {
        if (seen->shared == shared)
            return seen;
    }
    struct seen *seen = aligned_alloc(CACHE_LINE,
                                      (sizeof *seen + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
    INVARIANT(seen != NULL);
    *seen = (struct seen){.next = all_seen, .shared = shared};
    all_seen = seen;
    return seen;
}

static double mean_ms(uint64_t us, uint64_t count)
{
    return count == 0 ? 0 : (double)us / (double)count / 1000;
}

static void log_pool(void *context, struct pool_shared *shared)
{
    const struct period *period = context;
    struct seen *seen = seen_of(shared);
    struct pool_counters now = pool_counters_sum(shared);
    struct pool_counters before = seen->at;
    uint64_t queries = now.queries - before.queries;
    uint64_t transactions = now.transactions - before.transactions;
    uint64_t seconds = MAX(period->us / 1000000, (uint64_t)1);

    seen->at = now;
    if (queries == 0 && transactions == 0)
        return;
    log_info("[%s@%s] qps=%" PRIu64 " tps=%" PRIu64 " | errors=%" PRIu64
             " | query_ms avg=%.2f | xact_ms avg=%.2f | avg_wait=%.3fms",
             shared->user, shared->database, queries / seconds, transactions / seconds,
             now.errors - before.errors, mean_ms(now.query_us - before.query_us, queries),
             mean_ms(now.transaction_us - before.transaction_us, transactions),
             mean_ms(now.wait_us - before.wait_us, now.waits - before.waits));
}

static void roll(void *context, struct pool_shared *shared)
{
    struct histogram_view *view = context;
    struct pool_counters sum = pool_counters_sum(shared);
    uint64_t activity = sum.queries + sum.transactions + sum.waits;

    /* Of thousands of pools most rest: once the window is empty there is nothing to do. */
    shared->quiet_rolls = activity == shared->rolled_activity ? shared->quiet_rolls + 1 : 0;
    shared->rolled_activity = activity;
    if (shared->quiet_rolls > HISTOGRAM_SLOTS)
        return;
    for (int i = 0; i < TIME_KINDS; i++)
        histogram_roll(&shared->times[i]);
    histogram_recent(&shared->times[TIME_TRANSACTION], view);
    atomic_store(&shared->transaction_p95_us, histogram_quantile(view, 950));
    atomic_store(&shared->transaction_p99_us, histogram_quantile(view, 990));
}

void times_roll(void)
{
    struct histogram_view view;

    directory_each(roll, &view);
}

void statistics_log(uint64_t period_us)
{
    struct period period = {period_us};

    directory_each(log_pool, &period);
}
