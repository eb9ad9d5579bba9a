#define LOG_MODULE "pg_doorman::runtime"
#include "runtime/worker.h"

#include "runtime/io.h"
#include "runtime/log.h"
#include "runtime/world.h"

#include <errno.h>
#include <openssl/rand.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { STACKS_KEPT = 16, STACK_TRIM_US = 1000000 };

static struct worker *workers[WORKERS_MAX];
static unsigned worker_total;
static struct io_engine *engine;
static struct runtime_options options;
static _Atomic bool stopping;
static _Atomic unsigned outside_turn; /* spreads what is scheduled from outside */
static _Thread_local struct worker *self;

__attribute__((noinline)) struct worker *worker_self(void)
{
    __asm__ volatile("");
    return self;
}

uint64_t clock_us(void)
{
    struct timespec now;

    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->clock_us();
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* xoroshiro128+ (Blackman, Vigna, 2018): for jitter and spreading, not for secrets. */
uint64_t random_u64(struct worker *w)
{
    uint64_t a = w->random[0];
    uint64_t b = w->random[1];
    uint64_t out = a + b;

    b ^= a;
    w->random[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    w->random[1] = b << 37 | b >> 27;
    return out;
}

void random_secret(void *out, size_t len)
{
    if (UNLIKELY(world_simulated != NULL))
        world_simulated->random(out, len);
    else
        INVARIANT(RAND_bytes(out, len) == 1);
}

const char *runtime_engine_name(void)
{
    return engine->name;
}

unsigned runtime_workers(void)
{
    return worker_total;
}

struct worker *runtime_worker(unsigned index)
{
    return workers[index];
}

/* --- scheduling --- */

static void wake(struct worker *from, struct worker *w)
{
    /* The sleeper publishes the flag, fences, and looks at its queues once more; so either it sees
     * what was queued, or this sees the flag. One of several wakers pays for the system call. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&w->asleep, memory_order_relaxed))
        return;
    if (!atomic_exchange_explicit(&w->asleep, false, memory_order_acq_rel))
        return;
    if (from != NULL)
        from->counters.wakes_sent++;
    engine->wake(w);
}

static void queue_put(struct worker *w, struct actor *a)
{
    a->next_run = NULL;
    pthread_mutex_lock(&w->queue.lock);
    if (w->queue.tail == NULL)
        w->queue.head = a;
    else
        w->queue.tail->next_run = a;
    w->queue.tail = a;
    uint32_t count = atomic_load_explicit(&w->queue.count, memory_order_relaxed);
    atomic_store_explicit(&w->queue.count, count + 1, memory_order_relaxed);
    pthread_mutex_unlock(&w->queue.lock);
}

static struct actor *queue_take(struct worker *w)
{
    if (atomic_load_explicit(&w->queue.count, memory_order_relaxed) == 0)
        return NULL;
    pthread_mutex_lock(&w->queue.lock);
    struct actor *a = w->queue.head;
    if (a != NULL) {
        w->queue.head = a->next_run;
        if (w->queue.head == NULL)
            w->queue.tail = NULL;
        uint32_t count = atomic_load_explicit(&w->queue.count, memory_order_relaxed);
        atomic_store_explicit(&w->queue.count, count - 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&w->queue.lock);
    return a;
}

void worker_schedule(struct worker *w, struct actor *a)
{
    if (w != NULL) {
        queue_put(w, a);
        /* Enough for somebody else to help with? */
        if (worker_total > 1 && atomic_load_explicit(&w->queue.count, memory_order_relaxed) > 8) {
            struct worker *next = workers[(w->index + 1u) % worker_total];
            wake(w, next);
        }
        return;
    }
    unsigned turn = atomic_fetch_add_explicit(&outside_turn, 1, memory_order_relaxed);
    w = workers[a->home < worker_total ? a->home : turn % worker_total];
    queue_put(w, a);
    wake(NULL, w);
}

void worker_post(struct worker *w, struct post *post)
{
    struct post *seen = atomic_load_explicit(&w->inbox, memory_order_relaxed);

    do {
        post->next = seen;
    } while (!atomic_compare_exchange_weak_explicit(&w->inbox, &seen, post, memory_order_release,
                                                    memory_order_relaxed));
    wake(worker_self(), w);
}

static void run_posts(struct worker *w)
{
    if (atomic_load_explicit(&w->inbox, memory_order_relaxed) == NULL)
        return;
    struct post *newest = atomic_exchange_explicit(&w->inbox, NULL, memory_order_acquire);
    struct post *oldest = NULL;
    while (newest != NULL) {
        struct post *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct post *next = oldest->next;

        oldest->run(w, oldest);
        oldest = next;
    }
}

/* --- waiting --- */

struct wait wait_begin(struct worker *w)
{
    struct coroutine *co = w->coroutine;

    INVARIANT(co != NULL && co->wait == 0);
    co->wait = ++w->wait_sequence;
    return (struct wait){co, co->wait};
}

void wait_end(struct worker *w, struct wait wait, int64_t result)
{
    struct coroutine *co = wait.co;

    /* In this order: a late call may find a stack that was given back and cleared. */
    if (!wait_pending(wait))
        return;
    INVARIANT(co->worker == w);
    co->wait = 0;
    co->result = result;
    co->next = NULL;
    if (w->resume_tail == NULL)
        w->resume_head = co;
    else
        w->resume_tail->next = co;
    w->resume_tail = co;
}

struct wait_timer {
    struct timer timer;
    struct wait wait;
};

static void wait_timed_out(struct worker *w, struct timer *timer)
{
    wait_end(w, CONTAINER_OF(timer, struct wait_timer, timer)->wait, -ETIMEDOUT);
}

int64_t wait_suspend(struct worker *w, uint64_t deadline_us)
{
    struct wait_timer timeout = {.timer.fire = wait_timed_out,
                                 .wait = {w->coroutine, w->coroutine->wait}};

    /* It may have ended before it began to wait: then nothing else may end it. */
    if (deadline_us != 0 && w->coroutine->wait != 0)
        timer_arm(&w->timers, &timeout.timer, deadline_us);
    int64_t result = coroutine_suspend(w);
    timer_disarm(&w->timers, &timeout.timer);
    return result;
}

void wait_sleep(struct worker *w, uint64_t us)
{
    wait_begin(w);
    wait_suspend(w, clock_us() + us);
}

static bool run_resumed(struct worker *w)
{
    struct coroutine *co = w->resume_head;

    w->resume_head = NULL;
    w->resume_tail = NULL;
    if (co == NULL)
        return false;
    while (co != NULL) {
        struct coroutine *next = co->next;

        coroutine_resume(w, co);
        co = next;
    }
    return true;
}

struct spawned {
    struct post post;
    void (*run)(struct coroutine *, void *);
    void *argument;
};

static void spawn_here(struct worker *w, struct post *post)
{
    struct spawned spawned = *CONTAINER_OF(post, struct spawned, post);

    free(post);
    coroutine_run(w, spawned.run, spawned.argument);
}

void worker_spawn(struct worker *w, void (*run)(struct coroutine *, void *), void *argument)
{
    struct spawned *spawned = malloc(sizeof *spawned);

    INVARIANT(spawned != NULL);
    *spawned = (struct spawned){.post.run = spawn_here, .run = run, .argument = argument};
    worker_post(w, &spawned->post);
}

/* --- the loop --- */

static bool steal(struct worker *w)
{
    for (unsigned i = 1; i < worker_total; i++) {
        struct worker *victim = workers[(w->index + i) % worker_total];
        struct actor *a = queue_take(victim);

        if (a == NULL)
            continue;
        w->counters.steals++;
        actor_run(w, a);
        return true;
    }
    return false;
}

bool worker_run_any(struct worker *w)
{
    struct actor *a = queue_take(w);

    if (a == NULL)
        return steal(w);
    actor_run(w, a);
    return true;
}

/* A turn's worth of scheduled actors; what they schedule waits for the next turn. */
static bool run_scheduled(struct worker *w)
{
    uint32_t turn = atomic_load_explicit(&w->queue.count, memory_order_relaxed);
    bool any = turn > 0;

    while (turn-- > 0) {
        struct actor *a = queue_take(w);

        if (a == NULL)
            break;
        actor_run(w, a);
    }
    return any;
}

static bool nothing_to_do(struct worker *w)
{
    return w->resume_head == NULL &&
           atomic_load_explicit(&w->queue.count, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&w->inbox, memory_order_relaxed) == NULL &&
           !atomic_load_explicit(&stopping, memory_order_relaxed);
}

/* Gives the memory of stacks back that were used and are not any more, once a second at most and
 * when there is nothing else to do. When to come back for that; UINT64_MAX: not before more work.
 */
static uint64_t trim_stacks(struct worker *w)
{
    uint64_t next_us = w->stacks_trimmed_us + STACK_TRIM_US;

    if (LIKELY(w->stacks.touched <= STACKS_KEPT))
        return UINT64_MAX;
    if (w->now_us < next_us)
        return next_us;
    w->stacks_trimmed_us = w->now_us;
    stack_cache_trim(&w->stacks, STACKS_KEPT);
    return UINT64_MAX;
}

static void turn_begin(struct worker *w)
{
    w->counters.loops++;
    w->now_us = clock_us();
    timer_run(&w->timers, w, w->now_us);
    run_posts(w);
}

/* How long its engine may wait; 0: not at all. */
static uint64_t turn_end(struct worker *w, bool busy)
{
    if (!busy && nothing_to_do(w))
        busy = steal(w);
    uint64_t until = timer_next_us(&w->timers);
    if (busy || !nothing_to_do(w))
        return 0;
    until = MIN(until, trim_stacks(w));
    /* Release: who finds it asleep finds its engine made. */
    atomic_store_explicit(&w->asleep, true, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the one in wake() */
    return nothing_to_do(w) ? until : 0;
}

static void loop(struct worker *w)
{
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        turn_begin(w);
        bool busy = run_resumed(w);
        busy |= run_scheduled(w);
        engine->turn(w, turn_end(w, busy));
    }
}

/* --- the loop in steps, for a simulation --- */

void worker_adopt(struct worker *w)
{
    self = w;
}

/* As in run_resumed(): what is resumed meanwhile waits for the next turn. */
static void step_resume(struct worker *w, struct worker_progress *p)
{
    struct coroutine *co = p->resume;

    p->resume = co->next;
    p->busy = true;
    coroutine_resume(w, co);
}

static void step_scheduled(struct worker *w, struct worker_progress *p)
{
    struct actor *a = queue_take(w);

    p->left--;
    p->busy = true;
    if (a != NULL)
        actor_run(w, a);
    else
        p->left = 0;
}

bool worker_step(struct worker *w, struct worker_progress *p)
{
    if (!p->begun) {
        *p = (struct worker_progress){.begun = true};
        turn_begin(w);
        p->resume = w->resume_head;
        w->resume_head = NULL;
        w->resume_tail = NULL;
    } else if (p->resume != NULL) {
        step_resume(w, p);
    } else if (!p->counted) {
        p->counted = true;
        p->left = atomic_load_explicit(&w->queue.count, memory_order_relaxed);
    } else if (p->left > 0) {
        step_scheduled(w, p);
    } else {
        p->until_us = turn_end(w, p->busy);
        p->begun = false;
        return true;
    }
    return false;
}

bool runtime_stopping(void)
{
    return atomic_load_explicit(&stopping, memory_order_relaxed);
}

/* The engine calls this as soon as it no longer waits: wakers may save their system call. */
void worker_awake(struct worker *w)
{
    atomic_store_explicit(&w->asleep, false, memory_order_relaxed);
    w->now_us = clock_us();
}

static void pin_to_processor(unsigned index)
{
    cpu_set_t usable;
    cpu_set_t mine;

    if (sched_getaffinity(0, sizeof usable, &usable) != 0)
        return;
    int count = CPU_COUNT(&usable);
    if (count < 3)
        return;
    unsigned want = index % (unsigned)count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &usable) || want-- != 0)
            continue;
        CPU_ZERO(&mine);
        CPU_SET(cpu, &mine);
        if (pthread_setaffinity_np(pthread_self(), sizeof mine, &mine) == 0)
            log_info("Pinning worker thread %u to core %d", index, cpu);
        return;
    }
}

static void enter(struct worker *w)
{
    self = w;
    strand_adopt_thread(&w->strand);
    if (options.pin)
        pin_to_processor(w->index);
}

struct start {
    struct worker *worker;
    struct failure why;
    int result;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool ready;
};

/* A ring with a single issuer belongs to the thread that makes it, so each thread makes its own. */
static void *thread_main(void *argument)
{
    struct start *start = argument;
    struct worker *w = start->worker;

    enter(w);
    int result = engine->init(w, &start->why);
    pthread_mutex_lock(&start->lock);
    start->result = result;
    start->ready = true;
    pthread_cond_signal(&start->done);
    pthread_mutex_unlock(&start->lock);
    if (result != 0)
        return NULL;
    loop(w);
    return NULL; /* others may reach for this worker's engine till all have ended */
}

static int start_thread(struct worker *w, struct failure *why)
{
    struct start start = {
        .worker = w, .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    if (options.thread_stack_bytes >= 65536)
        pthread_attr_setstacksize(&attributes, options.thread_stack_bytes);
    int error = pthread_create(&w->thread, &attributes, thread_main, &start);
    pthread_attr_destroy(&attributes);
    if (error != 0)
        return fail(why, "cannot start worker thread %u: %s", w->index, strerror(error));
    pthread_setname_np(w->thread, "worker-pg-doorm");
    pthread_mutex_lock(&start.lock);
    while (!start.ready)
        pthread_cond_wait(&start.done, &start.lock);
    pthread_mutex_unlock(&start.lock);
    if (start.result != 0) {
        pthread_join(w->thread, NULL);
        *why = start.why;
    }
    return start.result;
}

static struct worker *worker_new(unsigned index)
{
    struct worker *w = aligned_alloc(CACHE_LINE,
                                     (sizeof *w + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));

    INVARIANT(w != NULL);
    memset(w, 0, sizeof *w);
    w->index = (uint16_t)index;
    w->engine = engine;
    w->now_us = clock_us();
    pthread_mutex_init(&w->queue.lock, NULL);
    random_secret(w->random, sizeof w->random);
    w->flight = flight_new((uint16_t)index);
    return w;
}

static int choose_engine(struct worker *first, const char *wanted, struct failure *why)
{
    if (world_simulated != NULL) {
        engine = world_simulated->engine;
        return engine->init(first, why);
    }
    if (strcmp(wanted, "epoll") != 0) {
        engine = &io_uring_engine;
        if (engine->init(first, why) == 0)
            return 0;
        if (strcmp(wanted, "io_uring") == 0)
            return -1;
        log_info("io_uring is not available (%s): using epoll", why->text);
    }
    engine = &io_epoll_engine;
    return engine->init(first, why);
}

int runtime_init(const struct runtime_options *given, struct failure *why)
{
    options = *given;
    worker_total = MIN(MAX(given->workers, 1u), (unsigned)WORKERS_MAX);
    atomic_store(&stopping, false);
    for (unsigned i = 0; i < worker_total; i++)
        workers[i] = worker_new(i);
    if (choose_engine(workers[0], given->engine, why) != 0)
        return -1;
    for (unsigned i = 0; i < worker_total; i++)
        workers[i]->engine = engine;
    enter(workers[0]);
    return 0;
}

int runtime_start(struct failure *why)
{
    for (unsigned i = 1; i < worker_total; i++) {
        if (start_thread(workers[i], why) != 0) {
            worker_total = i;
            return -1;
        }
    }
    return 0;
}

void runtime_run(void)
{
    workers[0]->thread = pthread_self();
    loop(workers[0]);
}

void runtime_stop(void)
{
    if (UNLIKELY(world_simulated != NULL)) {
        world_simulated->stop();
        return;
    }
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < worker_total; i++)
        wake(NULL, workers[i]);
}

void runtime_fini(void)
{
    for (unsigned i = 1; i < worker_total; i++)
        pthread_join(workers[i]->thread, NULL);
    for (unsigned i = 0; i < worker_total; i++)
        engine->fini(workers[i]);
}
