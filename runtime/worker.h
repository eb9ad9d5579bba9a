/* worker.h: the threads that run actors: M:N, one ring, run queue, timer heap and set of caches
 * each.
 *
 * Any worker may run any scheduled actor, and an idle worker steals from the others' queues;
 * suspended coroutines stay where they are. Everything in struct worker belongs to its own thread,
 * except the run queue, the inbox and the sleep flag, through which others reach it.
 */
#ifndef RUNTIME_WORKER_H
#define RUNTIME_WORKER_H

#include "runtime/actor.h"
#include "runtime/buffer.h"
#include "runtime/coroutine.h"
#include "runtime/flight.h"
#include "runtime/timer.h"

#include <pthread.h>

struct io_engine;
struct output;

enum { WORKERS_MAX = 256 };

struct run_queue {
    pthread_mutex_t lock;
    struct actor *head;
    struct actor *tail;
    _Atomic uint32_t count;
};

struct worker_counters {
    uint64_t loops;
    uint64_t waits;       /* that slept or polled in the kernel */
    uint64_t claims_won;  /* inline deliveries */
    uint64_t claims_lost; /* queued instead */
    uint64_t steals;
    uint64_t wakes_sent;
    uint64_t submissions; /* system calls for I/O */
    uint64_t messages;
};

struct worker {
    uint16_t index;
    uint64_t now_us;             /* monotonic, refreshed once per turn of the loop */
    struct coroutine *coroutine; /* the one that runs now */
    struct strand strand;        /* the thread's own stack */
    struct stack_cache stacks;
    uint64_t stacks_trimmed_us;
    struct rbuf_cache buffers;
    struct timer_heap timers;
    struct message *messages; /* free ones */
    uint32_t messages_free;
    struct output *outputs; /* free output queues (conn.c) */
    uint32_t outputs_free;
    struct coroutine *resume_head;
    struct coroutine *resume_tail;
    uint64_t wait_sequence;
    uint8_t inline_depth;
    uint8_t inline_rank;
    bool may_block; /* what runs now has a borrowed stack */
    struct io_engine *engine;
    void *io; /* the engine's own */
    struct flight *flight;
    struct worker_counters counters;
    uint64_t random[2];
    void *user[4]; /* the application's shards */

    struct run_queue queue __attribute__((aligned(CACHE_LINE)));
    _Atomic(struct post *) inbox;
    _Atomic bool asleep;
    pthread_t thread;
};

struct runtime_options {
    unsigned workers;
    const char *engine;        /* "auto", "io_uring", "epoll"; a simulation brings its own */
    bool pin;                  /* worker n to the n-th usable processor */
    size_t thread_stack_bytes; /* 0: default */
};

/* Prepares the workers; the calling thread becomes worker 0, and no other thread is started yet. -1
 * when the engine cannot be had. With "auto", io_uring is tried first. */
MUST_CHECK int runtime_init(const struct runtime_options *options, struct failure *why);
const char *runtime_engine_name(void);
unsigned runtime_workers(void);
struct worker *runtime_worker(unsigned index);
/* Starts the other workers' threads. */
MUST_CHECK int runtime_start(struct failure *why);
/* Runs worker 0 on the calling thread (which called runtime_init) until runtime_stop(). */
void runtime_run(void);
/* Any thread, also a signal handler: all workers leave their loops soon. */
void runtime_stop(void);
/* After runtime_run returned: joins the threads and ends the engine. */
void runtime_fini(void);

/* The calling thread's worker, NULL outside. Out of line, since a compiler may keep the address of
 * a thread-local over a switch. */
struct worker *worker_self(void);
/* Monotonic microseconds, read now (w->now_us is cheaper and mostly good enough). */
uint64_t clock_us(void);
uint64_t random_u64(struct worker *w);
/* Cryptographic. */
void random_secret(void *out, size_t len);

/* For the engine: it no longer waits in the kernel. Refreshes the clock. */
void worker_awake(struct worker *w);
/* The loop in steps, for a simulation, which has all workers on one thread. One handler, or one bit
 * of housekeeping; true: now its engine's turn would come, and may wait until until_us (0: not at
 * all). */
struct worker_progress {
    struct coroutine *resume;
    uint32_t left;
    bool begun;
    bool counted;
    bool busy;
    uint64_t until_us;
};
MUST_CHECK bool worker_step(struct worker *w, struct worker_progress *progress);
/* The calling thread is this worker from now on; NULL: none. */
void worker_adopt(struct worker *w);
/* runtime_stop() was called. */
bool runtime_stopping(void);
/* Schedules a claimed or newly non-empty actor. w NULL: outside the workers. */
void worker_schedule(struct worker *w, struct actor *a);
/* Runs one scheduled actor, of any worker's queue, here. False: there was none. On a worker's own
 * stack. */
bool worker_run_any(struct worker *w);
/* Runs post on that worker, soon. Any thread. */
void worker_post(struct worker *w, struct post *post);

/* A wait of the running coroutine. Begin, hand the identity to whoever will end it, suspend; it
 * ends once, with a result. At deadline_us (0 = none) it ends with -ETIMEDOUT. */
struct wait wait_begin(struct worker *w);
int64_t wait_suspend(struct worker *w, uint64_t deadline_us);
/* On the coroutine's own worker: it has not ended yet. */
static inline bool wait_pending(struct wait wait)
{
    return wait.co->wait == wait.id;
}
/* On the coroutine's own worker. Late calls (another identity) do nothing. */
void wait_end(struct worker *w, struct wait wait, int64_t result);
/* Suspends the running coroutine for that long. */
void wait_sleep(struct worker *w, uint64_t us);

/* Starts a coroutine that belongs to no actor. */
void worker_spawn(struct worker *w, void (*run)(struct coroutine *, void *), void *argument);

#endif
