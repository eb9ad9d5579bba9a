/* SHOW AUTH_QUERY: the databases whose users are looked up. */
#include "actors/admin.h"

#include "actors/auth_query.h"

struct auth_query_row {
    const char *database;
    uint64_t cache_entries;
    uint64_t cache_hits;
    uint64_t cache_misses;
    uint64_t cache_refetches;
    uint64_t cache_rate_limited;
    uint64_t auth_success;
    uint64_t auth_failure;
    uint64_t executor_queries;
    uint64_t executor_errors;
    uint64_t dynamic_pools_current;
    uint64_t dynamic_pools_created;
    uint64_t dynamic_pools_destroyed;
};

static void show_one(void *context, struct auth_query_state *state)
{
    const struct auth_query_counters *c = &state->counters;
    struct auth_query_row row = {
        .database = state->database,
        .cache_entries = atomic_load(&c->entries),
        .cache_hits = atomic_load(&c->hits),
        .cache_misses = atomic_load(&c->misses),
        .cache_refetches = atomic_load(&c->refetches),
        .cache_rate_limited = atomic_load(&c->rate_limited),
        .auth_success = atomic_load(&c->success),
        .auth_failure = atomic_load(&c->failure),
        .executor_queries = atomic_load(&c->queries),
        .executor_errors = atomic_load(&c->errors),
        .dynamic_pools_current = atomic_load(&state->dynamic_pools),
        .dynamic_pools_created = atomic_load(&c->created),
        .dynamic_pools_destroyed = atomic_load(&c->destroyed),
    };

    table_row(context, &row);
}

void show_auth_query(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN(auth_query_row, CELL_TEXT, database),
        COLUMN(auth_query_row, CELL_NUMBER, cache_entries),
        COLUMN(auth_query_row, CELL_NUMBER, cache_hits),
        COLUMN(auth_query_row, CELL_NUMBER, cache_misses),
        COLUMN(auth_query_row, CELL_NUMBER, cache_refetches),
        COLUMN(auth_query_row, CELL_NUMBER, cache_rate_limited),
        COLUMN(auth_query_row, CELL_NUMBER, auth_success),
        COLUMN(auth_query_row, CELL_NUMBER, auth_failure),
        COLUMN(auth_query_row, CELL_NUMBER, executor_queries),
        COLUMN(auth_query_row, CELL_NUMBER, executor_errors),
        COLUMN(auth_query_row, CELL_NUMBER, dynamic_pools_current),
        COLUMN(auth_query_row, CELL_NUMBER, dynamic_pools_created),
        COLUMN(auth_query_row, CELL_NUMBER, dynamic_pools_destroyed),
    };
    struct table table = TABLE(&run->out, columns);

    table_head(&table);
    auth_query_each(show_one, &table);
}
