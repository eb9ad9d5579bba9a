/* SHOW: pools, what they have done, and what they are configured to be. */
#include "actors/admin.h"

static void census(struct admin_run *run, struct census *c)
{
    census_take(run->worker, c, &run->arena);
}

static void put_pools(struct admin_run *run, const struct column *columns, size_t count,
                      const struct census *c)
{
    struct table t = {&run->out, columns, count};

    table_head(&t);
    for (size_t i = 0; i < c->pool_count; i++)
        table_row(&t, &c->pools[i]);
}

#define TEXT(field)   COLUMN(pool_row, CELL_TEXT, field)
#define NUMBER(field) COLUMN(pool_row, CELL_NUMBER, field)

void show_pools(struct admin_run *run)
{
    static const struct column columns[] = {
        TEXT(database),
        TEXT(user),
        COLUMN_AS("pool_mode", pool_row, CELL_TEXT, mode),
        NUMBER(cl_idle),
        NUMBER(cl_active),
        NUMBER(cl_waiting),
        COLUMN_ZERO("cl_cancel_req"),
        NUMBER(sv_active),
        NUMBER(sv_idle),
        COLUMN_ZERO("sv_used"),
        NUMBER(sv_login),
        NUMBER(pool_size),
        COLUMN_AS("maxwait", pool_row, CELL_WHOLE_SECONDS, wait_max_us),
        COLUMN_AS("maxwait_us", pool_row, CELL_REST_US, wait_max_us),
        NUMBER(avg_xact_time),
        COLUMN(pool_row, CELL_FLAG, paused),
        COLUMN(pool_row, CELL_FLAG, fallback_active),
        NUMBER(oldest_active_age_ms),
    };
    struct census c;

    census(run, &c);
    put_pools(run, columns, COUNT_OF(columns), &c);
}

static void add_percentiles(struct pool_row *row)
{
    struct histogram_view view;

    histogram_recent(&row->shared->times[TIME_QUERY], &view);
    row->query_p50 = histogram_quantile(&view, 500);
    row->query_p95 = histogram_quantile(&view, 950);
    row->query_p99 = histogram_quantile(&view, 990);
    histogram_recent(&row->shared->times[TIME_TRANSACTION], &view);
    row->transaction_p50 = histogram_quantile(&view, 500);
    row->transaction_p95 = histogram_quantile(&view, 950);
    row->transaction_p99 = histogram_quantile(&view, 990);
}

void show_pools_extended(struct admin_run *run)
{
    static const struct column columns[] = {
        TEXT(database),
        TEXT(user),
        NUMBER(cl_active),
        NUMBER(cl_waiting),
        NUMBER(sv_active),
        NUMBER(sv_idle),
        COLUMN_ZERO("sv_used"),
        NUMBER(sv_login),
        NUMBER(pool_size),
        COLUMN_AS("maxwait", pool_row, CELL_SECONDS, wait_max_us),
        COLUMN_AS("maxwait_us", pool_row, CELL_REST_US, wait_max_us),
        COLUMN_AS("pool_mode", pool_row, CELL_TEXT, mode),
        COLUMN_AS("bytes_recieved", pool_row, CELL_NUMBER, total_received), /* sic */
        COLUMN_AS("bytes_sent", pool_row, CELL_NUMBER, total_sent),
        COLUMN_AS("query_0.99", pool_row, CELL_NUMBER, query_p99),
        COLUMN_AS("transaction_0.99", pool_row, CELL_NUMBER, transaction_p99),
        COLUMN_AS("query_0.95", pool_row, CELL_NUMBER, query_p95),
        COLUMN_AS("transaction_0.95", pool_row, CELL_NUMBER, transaction_p95),
        COLUMN_AS("query_0.5", pool_row, CELL_NUMBER, query_p50),
        COLUMN_AS("transaction_0.5", pool_row, CELL_NUMBER, transaction_p50),
    };
    struct census c;

    census(run, &c);
    for (size_t i = 0; i < c.pool_count; i++)
        add_percentiles(&c.pools[i]);
    put_pools(run, columns, COUNT_OF(columns), &c);
}

void show_pools_memory(struct admin_run *run)
{
    static const struct column columns[] = {
        TEXT(database),
        TEXT(user),
        NUMBER(pool_prepared_count),
        NUMBER(pool_prepared_bytes),
        NUMBER(client_prepared_count),
        NUMBER(client_prepared_bytes),
        NUMBER(client_named_count),
        NUMBER(client_anonymous_count),
        NUMBER(client_anonymous_evictions_alive),
        NUMBER(async_clients),
    };
    struct census c;

    census_take(run->worker, &c, &run->arena);
    put_pools(run, columns, COUNT_OF(columns), &c);
}

void show_stats(struct admin_run *run)
{
    static const struct column columns[] = {
        TEXT(database),           TEXT(user),
        NUMBER(total_xact_count), NUMBER(total_query_count),
        NUMBER(total_received),   NUMBER(total_sent),
        NUMBER(total_xact_time),  NUMBER(total_query_time),
        NUMBER(total_wait_time),  NUMBER(total_errors),
        NUMBER(avg_xact_count),   NUMBER(avg_query_count),
        NUMBER(avg_recv),         NUMBER(avg_sent),
        NUMBER(avg_errors),       NUMBER(avg_xact_time),
        NUMBER(avg_query_time),   NUMBER(avg_wait_time),
    };
    struct census c;

    census_take_pools(run->worker, &c, &run->arena);
    put_pools(run, columns, COUNT_OF(columns), &c);
}

void show_pool_scaling(struct admin_run *run)
{
    static const struct column columns[] = {
        TEXT(user), /* first, here alone */
        TEXT(database),
        COLUMN_AS("inflight", pool_row, CELL_NUMBER, sv_login),
        COLUMN_AS("creates", pool_row, CELL_NUMBER, scaling.creations),
        COLUMN_AS("gate_waits", pool_row, CELL_NUMBER, scaling.gate_waits),
        COLUMN_AS("gate_budget_ex", pool_row, CELL_NUMBER, scaling.gate_exhausted),
        COLUMN_AS("antic_notify", pool_row, CELL_NUMBER, scaling.served_by_return),
        COLUMN_AS("antic_timeout", pool_row, CELL_NUMBER, scaling.hope_in_vain),
        COLUMN_AS("create_fallback", pool_row, CELL_NUMBER, scaling.above_warm),
        COLUMN_AS("replenish_def", pool_row, CELL_NUMBER, scaling.deferred),
    };
    struct census c;

    census_take_pools(run->worker, &c, &run->arena);
    put_pools(run, columns, COUNT_OF(columns), &c);
}

void show_databases(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN_AS("name", pool_row, CELL_TEXT, database),
        TEXT(host),
        COLUMN(pool_row, CELL_NUMBER_TEXT, port),
        COLUMN_AS("database", pool_row, CELL_TEXT, server_database),
        COLUMN_AS("force_user", pool_row, CELL_TEXT, user),
        COLUMN(pool_row, CELL_INT, pool_size),
        COLUMN(pool_row, CELL_INT, min_pool_size),
        {"reserve_pool", CELL_INT_ZERO, 0},
        COLUMN_AS("pool_mode", pool_row, CELL_TEXT, mode),
        COLUMN_AS("max_connections", pool_row, CELL_INT, pool_size),
        COLUMN_AS("current_connections", pool_row, CELL_INT, size),
    };
    struct census c;

    census_take_pools(run->worker, &c, &run->arena);
    put_pools(run, columns, COUNT_OF(columns), &c);
}

void show_users(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN_AS("name", pool_row, CELL_TEXT, user),
        COLUMN_AS("pool_mode", pool_row, CELL_TEXT, mode),
    };
    struct census c;

    census_take_pools(run->worker, &c, &run->arena);
    put_pools(run, columns, COUNT_OF(columns), &c);
}
