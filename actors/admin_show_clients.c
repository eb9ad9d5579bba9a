/* SHOW: clients, servers, and how many there are. */
#include "actors/admin.h"

static const struct column client_columns[] = {
    COLUMN_AS("client_id", client_row, CELL_CLIENT, number),
    COLUMN(client_row, CELL_TEXT, database),
    COLUMN(client_row, CELL_TEXT, user),
    COLUMN(client_row, CELL_TEXT, application_name),
    COLUMN_AS("addr", client_row, CELL_TEXT, address),
    COLUMN(client_row, CELL_TRUTH, tls),
    COLUMN(client_row, CELL_TEXT, state),
    COLUMN(client_row, CELL_TEXT, wait),
    COLUMN_AS("transaction_count", client_row, CELL_NUMBER, transactions),
    COLUMN_AS("query_count", client_row, CELL_NUMBER, queries),
    COLUMN_AS("error_count", client_row, CELL_NUMBER, errors),
    COLUMN(client_row, CELL_NUMBER, age_seconds),
};

void show_clients(struct admin_run *run)
{
    struct table t = TABLE(&run->out, client_columns);
    struct census c;

    census_take(run->worker, &c, &run->arena);
    table_head(&t);
    for (size_t i = 0; i < c.client_count; i++)
        table_row(&t, &c.clients[i]);
}

static const struct column server_columns[] = {
    COLUMN_AS("server_id", server_row, CELL_SERVER, number),
    COLUMN_AS("server_process_id", server_row, CELL_NUMBER_TEXT, pid),
    COLUMN_AS("database_name", server_row, CELL_TEXT, database),
    COLUMN(server_row, CELL_TEXT, user),
    COLUMN(server_row, CELL_TEXT, application_name),
    COLUMN(server_row, CELL_TRUTH, tls),
    COLUMN(server_row, CELL_TEXT, state),
    COLUMN(server_row, CELL_TEXT, wait),
    COLUMN_AS("transaction_count", server_row, CELL_NUMBER, transactions),
    COLUMN_AS("query_count", server_row, CELL_NUMBER, queries),
    COLUMN(server_row, CELL_NUMBER, bytes_sent),
    COLUMN(server_row, CELL_NUMBER, bytes_received),
    COLUMN(server_row, CELL_NUMBER, age_seconds),
    COLUMN_AS("prepare_cache_hit", server_row, CELL_NUMBER, prepared_hits),
    COLUMN_AS("prepare_cache_miss", server_row, CELL_NUMBER, prepared_misses),
    COLUMN_AS("prepare_cache_size", server_row, CELL_NUMBER, prepared_size),
};

void show_servers(struct admin_run *run)
{
    struct table t = TABLE(&run->out, server_columns);
    struct census c;

    census_take_pools(run->worker, &c, &run->arena);
    table_head(&t);
    for (size_t i = 0; i < c.server_count; i++)
        table_row(&t, &c.servers[i]);
}

struct list_row {
    const char *list;
    uint64_t items;
};

static uint64_t clients_in(const struct census *c, const char *state)
{
    uint64_t count = 0;

    for (size_t i = 0; i < c->client_count; i++)
        count += strcmp(c->clients[i].state, state) == 0;
    return count;
}

static uint64_t servers_in(const struct census *c, const char *state)
{
    uint64_t count = 0;

    for (size_t i = 0; i < c->server_count; i++)
        count += strcmp(c->servers[i].state, state) == 0;
    return count;
}

void show_lists(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN(list_row, CELL_TEXT, list),
        COLUMN(list_row, CELL_INT, items),
    };
    struct table t = TABLE(&run->out, columns);
    struct census c;

    census_take(run->worker, &c, &run->arena);
    uint64_t pools = c.pool_count + 1; /* the console counts as one */
    struct list_row rows[] = {
        {"databases", pools},
        {"users", pools},
        {"pools", pools},
        {"free_clients", clients_in(&c, "idle")},
        {"used_clients", clients_in(&c, "active")},
        {"login_clients", 0},
        {"free_servers", servers_in(&c, "idle")},
        {"used_servers", servers_in(&c, "active")},
        {"dns_names", 0},
        {"dns_zones", 0},
        {"dns_queries", 0},
        {"dns_pending", 0},
    };
    table_head(&t);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        table_row(&t, &rows[i]);
}
