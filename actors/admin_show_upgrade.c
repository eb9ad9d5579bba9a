/* SHOW UPGRADE: the one that is under way, or the last. */
#include "actors/admin.h"
#include "actors/upgrade.h"

struct fact_row {
    const char *name;
    const char *value;
};

static const struct column fact_columns[] = {
    COLUMN(fact_row, CELL_TEXT, name),
    COLUMN(fact_row, CELL_TEXT, value),
};

static void put(struct table *t, const char *name, const char *value)
{
    table_row(t, &(struct fact_row){name, value});
}

static void put_number(struct admin_run *run, struct table *t, const char *name, uint64_t value)
{
    put(t, name, arena_format(&run->arena, "%llu", (unsigned long long)value));
}

void show_upgrade(struct admin_run *run)
{
    struct table t = TABLE(&run->out, fact_columns);
    struct upgrade_status s;

    upgrade_status_get(&s);
    table_head(&t);
    put(&t, "phase", s.phase);
    put(&t, "result", s.result);
    put(&t, "error", s.error);
    put_number(run, &t, "generation", s.generation);
    put_number(run, &t, "predecessor_pid", (uint64_t)s.predecessor);
    put_number(run, &t, "successor_pid", (uint64_t)s.successor);
    put_number(run, &t, "rounds", s.rounds);
    put_number(run, &t, "clients_moved", s.sessions);
    put_number(run, &t, "clients_moved_in_transaction", s.in_transaction);
    put_number(run, &t, "clients_moved_waiting", s.waiters);
    put_number(run, &t, "servers_moved", s.backends);
    put_number(run, &t, "clients_left", s.sessions_left);
    put_number(run, &t, "servers_left", s.backends_left);
    put(&t, "left_because", s.left_reasons);
    put_number(run, &t, "freeze_us", s.freeze_us);
    put_number(run, &t, "longest_freeze_us", s.longest_freeze_us);
    put_number(run, &t, "total_us", s.total_us);
}
