/* freeze.h in the simulated world. Workers come to rest in a post, as everywhere; then nobody
 * picks them till the world goes on. */
#include "runtime/freeze.h"

#include "runtime/sim_internal.h"

#include <stdlib.h>

/* Of each process. */
static struct {
    uint64_t life; /* of the present stop; late posts of an earlier one do nothing */
    void (*run)(struct worker *w, void *context);
    void *context;
    unsigned only;
    bool given;
} orders[SIM_PROCESSES];

enum { ALL_WORKERS = WORKERS_MAX };

struct hold {
    struct post post;
    uint64_t life;
};

static void point(const char *name)
{
    if (sim_options.point != NULL)
        sim_options.point(name);
}

static void hold_here(struct worker *w, struct post *post)
{
    struct hold *hold = CONTAINER_OF(post, struct hold, post);
    struct sim_program *p = &sim_programs[sim_process];

    p->turns[w->index].parked = p->freezing && hold->life == orders[sim_process].life;
    free(hold);
}

static bool all_parked(void *context)
{
    const struct sim_program *p = &sim_programs[sim_process];

    (void)context;
    for (unsigned i = 0; i < p->workers; i++) {
        if (!p->turns[i].parked)
            return false;
    }
    return true;
}

bool freeze_begin(uint64_t timeout_us)
{
    struct sim_program *p = &sim_programs[sim_process];

    point("freeze");
    INVARIANT(!p->freezing);
    p->freezing = true;
    orders[sim_process].life++;
    orders[sim_process].given = false;
    for (unsigned i = 0; i < p->workers; i++) {
        struct hold *hold = malloc(sizeof *hold);

        INVARIANT(hold != NULL);
        *hold = (struct hold){.post.run = hold_here, .life = orders[sim_process].life};
        worker_post(runtime_worker(i), &hold->post);
    }
    if (sim_wait(all_parked, NULL, sim_now_us() + timeout_us))
        return true;
    freeze_end();
    return false;
}

bool sim_freeze_obey(void)
{
    struct sim_program *p = &sim_programs[sim_process];
    unsigned first = p->workers == 0 ? 0 : (unsigned)sim_below(p->workers);

    if (!orders[sim_process].given)
        return false;
    for (unsigned i = 0; i < p->workers; i++) {
        struct worker *w = p->worker[(first + i) % p->workers];

        if (orders[sim_process].only != ALL_WORKERS && orders[sim_process].only != w->index)
            continue;
        worker_adopt(w);
        w->now_us = clock_us();
        orders[sim_process].run(w, orders[sim_process].context);
        worker_adopt(NULL);
    }
    orders[sim_process].given = false;
    return true;
}

static bool done(void *context)
{
    (void)context;
    return true;
}

/* It is carried out outside of the thread, on the workers' stack. */
static void give_order(unsigned only, void (*run)(struct worker *w, void *context), void *context)
{
    point("order");
    INVARIANT(sim_programs[sim_process].freezing && all_parked(NULL));
    orders[sim_process].run = run;
    orders[sim_process].context = context;
    orders[sim_process].only = only;
    orders[sim_process].given = true;
    sim_wait(done, NULL, 0);
    INVARIANT(!orders[sim_process].given);
}

void freeze_each(void (*run)(struct worker *w, void *context), void *context)
{
    give_order(ALL_WORKERS, run, context);
}

void freeze_on(unsigned index, void (*run)(struct worker *w, void *context), void *context)
{
    give_order(index, run, context);
}

void freeze_end(void)
{
    struct sim_program *p = &sim_programs[sim_process];

    point("thaw");
    p->freezing = false;
    for (unsigned i = 0; i < p->workers; i++) {
        if (p->turns[i].parked)
            p->worker[i]->now_us = clock_us();
        p->turns[i].parked = false;
    }
}

void freeze_settle(struct worker *w, void *nothing)
{
    (void)nothing;
    while (worker_run_any(w))
        ;
}
