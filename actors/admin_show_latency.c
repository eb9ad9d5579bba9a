/* SHOW LATENCY: how long things took, by pool and by what: microseconds, over the last 15 to 18
 * seconds. */
#include "actors/admin.h"

struct latency_row {
    const char *database;
    const char *user;
    const char *what;
    uint64_t count;
    uint64_t p50;
    uint64_t p90;
    uint64_t p95;
    uint64_t p99;
    uint64_t p999;
    uint64_t max;
};

static const char *const what_names[TIME_KINDS] = {
    [TIME_QUERY] = "query",
    [TIME_TRANSACTION] = "transaction",
    [TIME_WAIT] = "wait",
    [TIME_CONNECT] = "connect",
};

static void put_row(const struct table *table, const struct pool_shared *shared, int what)
{
    struct histogram_view view;

    histogram_recent(&shared->times[what], &view);
    struct latency_row row = {
        .database = shared->database,
        .user = shared->user,
        .what = what_names[what],
        .count = view.count,
        .p50 = histogram_quantile(&view, 500),
        .p90 = histogram_quantile(&view, 900),
        .p95 = histogram_quantile(&view, 950),
        .p99 = histogram_quantile(&view, 990),
        .p999 = histogram_quantile(&view, 999),
        .max = histogram_quantile(&view, 1000),
    };
    table_row(table, &row);
}

static void put_pool(void *context, struct pool_shared *shared)
{
    if (atomic_load(&shared->pool) == 0)
        return;
    for (int what = 0; what < TIME_KINDS; what++)
        put_row(context, shared, what);
}

#define NUMBER_AS(name, field) COLUMN_AS(name, latency_row, CELL_NUMBER, field)

void show_latency(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN(latency_row, CELL_TEXT, database),
        COLUMN(latency_row, CELL_TEXT, user),
        COLUMN(latency_row, CELL_TEXT, what),
        COLUMN(latency_row, CELL_NUMBER, count),
        NUMBER_AS("0.5", p50),
        NUMBER_AS("0.9", p90),
        NUMBER_AS("0.95", p95),
        NUMBER_AS("0.99", p99),
        NUMBER_AS("0.999", p999),
        COLUMN(latency_row, CELL_NUMBER, max),
    };
    struct table table = TABLE(&run->out, columns);

    table_head(&table);
    directory_each(put_pool, &table);
}
