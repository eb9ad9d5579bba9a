/* SHOW WORKERS. Other threads' counters are read as they pass. */
#include "actors/admin.h"
#include "actors/passing.h"

struct worker_row {
    uint64_t worker;
    uint64_t loops;
    uint64_t waits;
    uint64_t claims_won;
    uint64_t claims_lost;
    uint64_t steals;
    uint64_t wakes_sent;
    uint64_t submissions;
    uint64_t messages;
    uint64_t ready;
    uint64_t stacks_in_use;
    uint64_t stacks_in_use_max;
    uint64_t stacks_total;
    bool asleep;
};

#define NUMBER(field) COLUMN(worker_row, CELL_NUMBER, field)
static const struct column worker_columns[] = {
    NUMBER(worker),        NUMBER(loops),
    NUMBER(waits),         NUMBER(claims_won),
    NUMBER(claims_lost),   NUMBER(steals),
    NUMBER(wakes_sent),    NUMBER(submissions),
    NUMBER(messages),      NUMBER(ready),
    NUMBER(stacks_in_use), NUMBER(stacks_in_use_max),
    NUMBER(stacks_total),  COLUMN(worker_row, CELL_TRUTH, asleep),
};

void show_workers(struct admin_run *run)
{
    struct table t = TABLE(&run->out, worker_columns);

    table_head(&t);
    PASSING_BEGIN();
    for (unsigned i = 0; i < runtime_workers(); i++) {
        struct worker *w = runtime_worker(i);
        const struct worker_counters *c = &w->counters;
        struct worker_row row = {
            .worker = i,
            .loops = PASSING(c->loops),
            .waits = PASSING(c->waits),
            .claims_won = PASSING(c->claims_won),
            .claims_lost = PASSING(c->claims_lost),
            .steals = PASSING(c->steals),
            .wakes_sent = PASSING(c->wakes_sent),
            .submissions = PASSING(c->submissions),
            .messages = PASSING(c->messages),
            .ready = atomic_load_explicit(&w->queue.count, memory_order_relaxed),
            .stacks_in_use = PASSING(w->stacks.in_use),
            .stacks_in_use_max = PASSING(w->stacks.in_use_max),
            .stacks_total = PASSING(w->stacks.total),
            .asleep = atomic_load_explicit(&w->asleep, memory_order_relaxed),
        };

        table_row(&t, &row);
    }
    PASSING_END();
}
