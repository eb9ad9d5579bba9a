/* Counters of all workers as one, and what they did in the last window. */
#include "actors/admin.h"

#define ADD(field) sum.field += __atomic_load_n(&one->field, __ATOMIC_RELAXED)
struct pool_counters pool_counters_sum(const struct pool_shared *shared)
{
    struct pool_counters sum = {0};

    for (unsigned i = 0; i < runtime_workers(); i++) {
        const struct pool_counters *one = &shared->counters[i];

        ADD(transactions);
        ADD(queries);
        ADD(bytes_received);
        ADD(bytes_sent);
        ADD(transaction_us);
        ADD(query_us);
        ADD(wait_us);
        ADD(waits);
        ADD(errors);
        for (int kind = 0; kind < STREAM_KINDS; kind++) {
            ADD(streams[kind]);
            ADD(streams_broken[kind]);
            ADD(stream_bytes[kind]);
        }
    }
    return sum;
}

static uint64_t per_second(uint64_t now, uint64_t before)
{
    return (now - before) / (STATISTICS_US / 1000000);
}

static uint64_t mean(uint64_t total, uint64_t count)
{
    return count == 0 ? 0 : total / count;
}

/* Counts become rates, times become means. */
static void tick_pool(void *context, struct pool_shared *shared)
{
    struct pool_counters now = pool_counters_sum(shared);
    const struct pool_counters *before = &shared->previous;
    struct pool_counters *average = &shared->average;

    (void)context;
    average->transactions = per_second(now.transactions, before->transactions);
    average->queries = per_second(now.queries, before->queries);
    average->bytes_received = per_second(now.bytes_received, before->bytes_received);
    average->bytes_sent = per_second(now.bytes_sent, before->bytes_sent);
    average->errors = per_second(now.errors, before->errors);
    average->transaction_us = mean(now.transaction_us - before->transaction_us,
                                   now.transactions - before->transactions);
    average->query_us = mean(now.query_us - before->query_us, now.queries - before->queries);
    average->wait_us = mean(now.wait_us - before->wait_us, now.waits - before->waits);
    shared->previous = now;
}

void statistics_tick(void)
{
    directory_each(tick_pool, NULL);
}
