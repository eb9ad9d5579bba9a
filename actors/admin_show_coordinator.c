/* SHOW POOL_COORDINATOR: the databases that are capped. */
#include "actors/admin.h"

#include "actors/coordinator.h"

struct coordinator_row {
    const char *database;
    uint64_t max_db_conn;
    uint64_t current;
    uint64_t reserve_size;
    uint64_t reserve_used;
    uint64_t evictions;
    uint64_t reserve_acq;
    uint64_t exhaustions;
};

static void look(struct actor *a, void *context)
{
    const struct coordinator *c = coordinator_of(a);

    *(struct coordinator_row *)context = (struct coordinator_row){
        .database = c->shared->database,
        .max_db_conn = c->max,
        .current = c->current,
        .reserve_size = c->reserve,
        .reserve_used = c->current > c->max ? c->current - c->max : 0,
        .evictions = c->evictions,
        .reserve_acq = c->reserve_acquisitions,
        .exhaustions = c->exhaustions,
    };
}

struct showing {
    struct admin_run *run;
    const struct table *table;
};

static void show_one(void *context, struct coordination *shared)
{
    const struct showing *showing = context;
    struct coordinator_row row;

    if (actor_visit(showing->run->worker, shared->actor, look, &row, clock_us() + VISIT_LIMIT_US) ==
        0)
        table_row(showing->table, &row);
}

void show_pool_coordinator(struct admin_run *run)
{
    static const struct column columns[] = {
        COLUMN(coordinator_row, CELL_TEXT, database),
        COLUMN(coordinator_row, CELL_NUMBER, max_db_conn),
        COLUMN(coordinator_row, CELL_NUMBER, current),
        COLUMN(coordinator_row, CELL_NUMBER, reserve_size),
        COLUMN(coordinator_row, CELL_NUMBER, reserve_used),
        COLUMN(coordinator_row, CELL_NUMBER, evictions),
        COLUMN(coordinator_row, CELL_NUMBER, reserve_acq),
        COLUMN(coordinator_row, CELL_NUMBER, exhaustions),
    };
    struct table table = TABLE(&run->out, columns);
    struct showing showing = {run, &table};

    table_head(&table);
    coordinations_each(show_one, &showing);
}
