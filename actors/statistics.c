#define LOG_MODULE "pg_doorman::stats"
#include "actors/pool_internal.h"

#include "runtime/log.h"

#include <inttypes.h>

static double mean_ms(uint64_t us, uint64_t count)
{
    return count == 0 ? 0 : (double)us / (double)count / 1000;
}

struct percentiles {
    double p50, p90, p95, p99; /* milliseconds */
};

static struct percentiles recent(const struct pool_shared *shared, enum pool_time kind)
{
    struct histogram_view view;

    histogram_recent(&shared->times[kind], &view);
    return (struct percentiles){
        .p50 = (double)histogram_quantile(&view, 500) / 1000,
        .p90 = (double)histogram_quantile(&view, 900) / 1000,
        .p95 = (double)histogram_quantile(&view, 950) / 1000,
        .p99 = (double)histogram_quantile(&view, 990) / 1000,
    };
}

/* The shape of the line is as operators' tools read it (spec: metrics 6). */
void statistics_log(struct pool *p)
{
    struct pool_shared *shared = p->shared;
    struct pool_counters now = pool_counters_sum(shared);
    struct pool_counters before = shared->told;
    uint64_t seconds = STATISTICS_US / 1000000;
    uint32_t clients = atomic_load_explicit(&shared->logged_in, memory_order_relaxed);
    uint32_t active = p->count[BACKEND_LEASED];
    uint32_t busy = active + p->waiting;

    shared->told = now;
    if (clients == 0 && now.queries == before.queries && now.transactions == before.transactions)
        return;
    struct percentiles query = recent(shared, TIME_QUERY);
    struct percentiles transaction = recent(shared, TIME_TRANSACTION);
    struct percentiles wait = recent(shared, TIME_WAIT);
    log_info("[%s@%s] qps=%" PRIu64 " tps=%" PRIu64
             " | clients=%u active=%u idle=%u wait=%u | servers=%u active=%u idle=%u"
             " | query_ms p50=%.2f p90=%.2f p95=%.2f p99=%.2f"
             " | xact_ms p50=%.2f p90=%.2f p95=%.2f p99=%.2f"
             " | wait_ms p50=%.2f p90=%.2f p95=%.2f p99=%.2f | avg_wait=%.3fms",
             shared->user, shared->database, (now.queries - before.queries) / seconds,
             (now.transactions - before.transactions) / seconds, clients, active,
             clients - MIN(busy, clients), p->waiting, pool_size_now(p),
             active + p->count[BACKEND_CLEANING], p->count[BACKEND_IDLE], query.p50, query.p90,
             query.p95, query.p99, transaction.p50, transaction.p90, transaction.p95,
             transaction.p99, wait.p50, wait.p90, wait.p95, wait.p99,
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
