/* Workers are held in a post, that is in their loop's own hands, and take orders there. */
#include "runtime/freeze.h"

#include "runtime/io.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct order {
    void (*run)(struct worker *w, void *context);
    void *context;
    unsigned only; /* a worker's index, or all of them: UINT_MAX */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t life;         /* of the present stop; late posts of an earlier one do nothing */
static bool held;             /* workers that come stay */
static unsigned parked;       /* are here */
static uint64_t order_number; /* each parked worker carries out each order once */
static struct order order;
static unsigned order_left;

enum { ALL_WORKERS = WORKERS_MAX };

struct hold {
    struct post post;
    uint64_t life;
};

/* With the lock, which is let go of for the order. */
static void carry_out(struct worker *w)
{
    struct order mine = order;

    if (mine.only != ALL_WORKERS && mine.only != w->index)
        return;
    pthread_mutex_unlock(&lock);
    w->now_us = clock_us();
    mine.run(w, mine.context);
    pthread_mutex_lock(&lock);
    if (--order_left == 0)
        pthread_cond_broadcast(&changed);
}

static void hold_here(struct worker *w, struct post *post)
{
    struct hold *hold = CONTAINER_OF(post, struct hold, post);
    uint64_t mine = hold->life;

    free(hold);
    pthread_mutex_lock(&lock);
    uint64_t seen = order_number;
    if (held && life == mine) {
        parked++;
        pthread_cond_broadcast(&changed);
    }
    while (held && life == mine) {
        if (seen != order_number) {
            seen = order_number;
            carry_out(w);
            continue;
        }
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    w->now_us = clock_us();
}

static void post_holds(void)
{
    for (unsigned i = 0; i < runtime_workers(); i++) {
        struct hold *hold = malloc(sizeof *hold);

        INVARIANT(hold != NULL);
        *hold = (struct hold){.post.run = hold_here, .life = life};
        worker_post(runtime_worker(i), &hold->post);
    }
}

bool freeze_begin(uint64_t timeout_us)
{
    struct timespec until;
    int error = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_us / 1000000);
    until.tv_nsec += (long)(timeout_us % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    INVARIANT(!held);
    held = true;
    parked = 0;
    life++;
    pthread_mutex_unlock(&lock);
    post_holds();
    pthread_mutex_lock(&lock);
    while (parked < runtime_workers() && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&changed, &lock, &until);
    bool all = parked == runtime_workers();
    pthread_mutex_unlock(&lock);
    if (!all)
        freeze_end();
    return all;
}

static void give_order(struct order given, unsigned count)
{
    pthread_mutex_lock(&lock);
    INVARIANT(held && order_left == 0);
    order = given;
    order_left = count;
    order_number++;
    pthread_cond_broadcast(&changed);
    while (order_left > 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

void freeze_each(void (*run)(struct worker *w, void *context), void *context)
{
    give_order((struct order){run, context, ALL_WORKERS}, runtime_workers());
}

void freeze_on(unsigned index, void (*run)(struct worker *w, void *context), void *context)
{
    give_order((struct order){run, context, index}, 1);
}

void freeze_end(void)
{
    pthread_mutex_lock(&lock);
    held = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void freeze_settle(struct worker *w, void *nothing)
{
    (void)nothing;
    while (worker_run_any(w))
        ;
}
