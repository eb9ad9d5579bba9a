/* The scheduler of the simulated world: chance, time, events, and whose turn it is. */
#include "runtime/sim_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct event {
    uint64_t at_us;
    uint64_t sequence;
    void (*run)(void *context);
    void *context;
    unsigned process; /* in whose hands it runs */
    uint32_t pid;     /* 0: nobody's in particular */
};

/* How much faster one worker may be than another. */
enum { WEIGHT_MAX = 30 };

struct sim_options sim_options;
static uint64_t state[2];
static uint64_t now_us = 1000000000;
static uint64_t steps;
static uint64_t hash = 14695981039346656037u;
static struct event *events; /* heap, [1..events_count] */
static size_t events_count;
static size_t events_size;
static uint64_t event_sequence;
static struct event *due;
static size_t due_count;
static size_t due_size;
struct sim_program sim_programs[SIM_PROCESSES];
unsigned sim_process;

/* --- chance: xoroshiro128+, seeded by splitmix64 --- */

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t sim_draw(void)
{
    uint64_t a = state[0];
    uint64_t b = state[1];
    uint64_t out = a + b;

    b ^= a;
    state[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    state[1] = b << 37 | b >> 27;
    return out;
}

uint64_t sim_below(uint64_t n)
{
    INVARIANT(n > 0);
    return (sim_draw() >> 11) % n;
}

bool sim_chance(unsigned per_mille)
{
    return per_mille != 0 && sim_below(1000) < per_mille;
}

void sim_random(void *out, size_t len)
{
    uint8_t *at = out;

    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)(sim_draw() >> 32);
}

/* --- hash and trace --- */

void sim_mix(uint64_t value)
{
    hash = (hash ^ value) * 1099511628211u;
    hash ^= hash >> 29;
}

uint64_t sim_hash(void)
{
    return hash;
}

void sim_note(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (int i = 0; i < len && i < (int)sizeof text; i++)
        sim_mix((uint8_t)text[i]);
    if (sim_options.trace) {
        const struct worker *w = worker_self();

        printf("%8llu %10llu %c%u %s\n", (unsigned long long)steps, (unsigned long long)now_us,
               w == NULL ? '-' : 'w', w == NULL ? 0 : w->index, text);
    }
}

void sim_fail(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    printf("VIOLATION seed %llu, step %llu, at %llu us: ", (unsigned long long)sim_options.seed,
           (unsigned long long)steps, (unsigned long long)now_us);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    abort(); /* the crash report has the last messages */
}

/* --- time --- */

uint64_t sim_now_us(void)
{
    return now_us;
}

uint64_t sim_steps(void)
{
    return steps;
}

static bool earlier(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void event_push(struct event event)
{
    if (events_count + 2 > events_size) {
        events_size = MAX(events_size * 2, (size_t)256);
        events = realloc(events, events_size * sizeof *events);
        INVARIANT(events != NULL);
    }
    size_t place = ++events_count;
    while (place > 1 && earlier(&event, &events[place / 2])) {
        events[place] = events[place / 2];
        place /= 2;
    }
    events[place] = event;
}

void sim_at(uint64_t at_us, void (*run)(void *context), void *context)
{
    event_push((struct event){at_us, event_sequence++, run, context, 0, 0});
}

void sim_at_here(uint64_t at_us, void (*run)(void *context), void *context)
{
    uint32_t pid = sim_programs[sim_process].pid;

    event_push((struct event){at_us, event_sequence++, run, context, sim_process, pid});
}

static struct event event_pop(void)
{
    struct event first = events[1];
    struct event last = events[events_count--];
    size_t place = 1;

    for (;;) {
        size_t child = place * 2;

        if (child > events_count)
            break;
        if (child < events_count && earlier(&events[child + 1], &events[child]))
            child++;
        if (!earlier(&events[child], &last))
            break;
        events[place] = events[child];
        place = child;
    }
    events[place] = last;
    return first;
}

static void collect_due(void)
{
    while (events_count > 0 && events[1].at_us <= now_us) {
        if (due_count == due_size) {
            due_size = MAX(due_size * 2, (size_t)64);
            due = realloc(due, due_size * sizeof *due);
            INVARIANT(due != NULL);
        }
        due[due_count++] = event_pop();
    }
}

static void run_due(size_t which)
{
    struct event event = due[which];

    due[which] = due[--due_count];
    if (event.pid != 0 && sim_programs[event.process].pid != event.pid)
        return; /* whom it was for has ended */
    if (event.pid != 0 && sim_process_stands(event.process)) {
        event.at_us = now_us + 1000;
        event_push(event);
        return;
    }
    if (event.pid != 0)
        sim_enter(event.process);
    event.run(event.context);
}

struct help {
    void (*run)(void *argument);
    void *argument;
};

static void help_run(void *context)
{
    struct help help = *(struct help *)context;

    free(context);
    help.run(help.argument);
}

int sim_help(void (*run)(void *argument), void *argument)
{
    struct help *help = malloc(sizeof *help);

    INVARIANT(help != NULL);
    *help = (struct help){run, argument};
    sim_at_here(now_us + sim_below(20000), help_run, help);
    return 0;
}

struct errand {
    struct post post;
    void (*run)(struct worker *w, void *context);
    void *context;
};

static void errand_run(struct worker *w, struct post *post)
{
    struct errand errand = *CONTAINER_OF(post, struct errand, post);

    free(CONTAINER_OF(post, struct errand, post));
    errand.run(w, errand.context);
}

void sim_on_worker(unsigned index, void (*run)(struct worker *w, void *context), void *context)
{
    struct errand *errand = malloc(sizeof *errand);

    INVARIANT(errand != NULL);
    *errand = (struct errand){{NULL, errand_run}, run, context};
    worker_post(runtime_worker(index), &errand->post);
}

bool sim_memory(size_t size)
{
    if (!sim_chance(sim_options.memory_per_mille))
        return true;
    sim_note("%zu bytes of memory are refused", size);
    return false;
}

/* --- workers --- */

void sim_stop(void)
{
    sim_programs[sim_process].stopped = true;
}

bool sim_stopped(void)
{
    return sim_programs[sim_process].stopped;
}

void sim_wake(struct worker *w)
{
    sim_programs[sim_process].turns[w->index].woken = true;
}

/* Of the present process. */
static bool runnable(unsigned index)
{
    const struct sim_turn *t = &sim_programs[sim_process].turns[index];

    if (t->parked)
        return false;
    if (t->held != NULL)
        return t->held_until_us <= now_us;
    if (t->where != SIM_SLEEPS || t->woken || t->progress.until_us <= now_us)
        return true;
    return sim_options.readiness ? sim_epoll_ready(index) : sim_engine_ready(index);
}

/* As if it were in the middle of a long handler: the actor is busy, and so is the worker. */
static bool hold_up(struct worker *w, struct sim_turn *t)
{
    if (runtime_workers() < 2 || !sim_chance(sim_options.hold_per_mille))
        return false;
    struct actor *a = actor_pick(sim_draw());
    if (a == NULL || !mailbox_claim(&a->box))
        return false;
    sim_note("holds %s %u", actor_type_of(a)->name, a->index);
    t->held = a;
    t->held_until_us = now_us + 1 + sim_below(sim_chance(100) ? 3000 : 100);
    (void)w;
    return true;
}

static void let_go(struct worker *w, struct sim_turn *t)
{
    struct actor *a = t->held;

    t->held = NULL;
    actor_release(w, a);
}

static void run_worker(unsigned index)
{
    struct worker *w = runtime_worker(index);
    struct sim_turn *t = &sim_programs[sim_process].turns[index];

    worker_adopt(w);
    sim_mix(index + 1);
    if (t->held != NULL) {
        let_go(w, t);
    } else if (t->where == SIM_SLEEPS) {
        worker_awake(w);
        t->woken = false;
        t->where = SIM_TURNS;
    } else if (t->where == SIM_TURNS && sim_options.readiness) {
        io_sim_epoll_engine.turn(w, 0);
        t->where = SIM_RUNS;
    } else if (t->where == SIM_TURNS) {
        /* Some of what is ready now; the rest next time. */
        if (sim_chance(100) || !sim_engine_deliver(w))
            t->where = SIM_RUNS;
    } else if (!hold_up(w, t) && worker_step(w, &t->progress)) {
        t->where = t->progress.until_us == 0 ? SIM_TURNS : SIM_SLEEPS;
        t->woken = false;
        if (t->where == SIM_TURNS)
            worker_awake(w);
    }
    worker_adopt(NULL);
}

/* A worker that sleeps must have been woken for what it has been given; what is in its run queue
 * another may do that is awake. */
static void check_wake_ups(const struct sim_program *p)
{
    bool somebody_awake = false;

    for (unsigned i = 0; i < p->workers; i++)
        somebody_awake |= p->turns[i].where != SIM_SLEEPS || p->turns[i].woken ||
                          p->turns[i].held != NULL;
    for (unsigned i = 0; i < p->workers; i++) {
        struct worker *w = p->worker[i];

        if (p->turns[i].where != SIM_SLEEPS || p->turns[i].woken || p->turns[i].held != NULL)
            continue;
        if (atomic_load(&w->inbox) != NULL || w->resume_head != NULL ||
            (atomic_load(&w->queue.count) > 0 && !somebody_awake))
            sim_fail("worker %u sleeps, and nobody wakes it for what it has to do", i);
    }
}

/* --- steps --- */

static uint64_t next_of(const struct sim_program *p)
{
    uint64_t next = UINT64_MAX;

    if (p->pid != 0 && p->stands_until_us > now_us)
        return p->stands_until_us;
    for (unsigned i = 0; i < p->workers && p->pid != 0; i++) {
        const struct sim_turn *t = &p->turns[i];

        if (!t->parked)
            next = MIN(next, t->held != NULL ? t->held_until_us : t->progress.until_us);
    }
    return next;
}

static uint64_t next_us(void)
{
    uint64_t next = events_count > 0 ? events[1].at_us : UINT64_MAX;

    for (unsigned i = 0; i < SIM_PROCESSES; i++)
        next = MIN(next, next_of(&sim_programs[i]));
    return MIN(next, sim_process_next_us());
}

enum { CHOICES_MAX = SIM_PROCESSES * WORKERS_MAX * WEIGHT_MAX };

/* Who is awake, each as often as its weight says. */
static unsigned candidates(uint16_t *out)
{
    unsigned present = sim_process;
    unsigned count = 0;

    for (sim_process = 0; sim_process < SIM_PROCESSES; sim_process++) {
        const struct sim_program *p = &sim_programs[sim_process];

        if (p->pid == 0 || sim_process_stands(sim_process))
            continue;
        for (unsigned i = 0; i < p->workers; i++) {
            for (unsigned n = runnable(i) ? p->turns[i].weight : 0; n > 0; n--)
                out[count++] = (uint16_t)(sim_process * WORKERS_MAX + i);
        }
    }
    sim_process = present;
    return count;
}

static void run_candidate(unsigned which)
{
    sim_enter(which / WORKERS_MAX);
    run_worker(which % WORKERS_MAX);
}

/* What there is to choose from: workers, then threads and orders, then events. */
static unsigned choices(uint16_t *workers, unsigned *threads, unsigned *awake, unsigned *others)
{
    collect_due();
    *awake = candidates(workers);
    *others = sim_process_ready(threads, SIM_PROCESSES * 4);
    return *awake + *others + (unsigned)due_count;
}

bool sim_step(void)
{
    uint16_t workers[CHOICES_MAX];
    unsigned threads[SIM_PROCESSES * 4];
    unsigned awake;
    unsigned others;
    unsigned count = choices(workers, threads, &awake, &others);

    if (count == 0) {
        uint64_t next = next_us();

        if (next == UINT64_MAX)
            return false;
        now_us = MAX(now_us, next);
        count = choices(workers, threads, &awake, &others);
    }
    steps++;
    if (count > 0) {
        unsigned pick = (unsigned)sim_below(count);

        if (pick < awake)
            run_candidate(workers[pick]);
        else if (pick < awake + others)
            sim_process_run(threads[pick - awake]);
        else
            run_due(pick - awake - others);
    }
    if (sim_programs[sim_process].pid != 0 && !sim_programs[sim_process].freezing &&
        !sim_process_stands(sim_process)) {
        check_wake_ups(&sim_programs[sim_process]);
        if (sim_options.checked != NULL)
            sim_options.checked();
    }
    if (sim_options.step_us > 0 && sim_chance(300))
        now_us += sim_below(sim_options.step_us) + 1;
    return true;
}

void sim_plenty(void)
{
    sim_options.memory_per_mille = 0;
}

void sim_calm(void)
{
    sim_options.hold_per_mille = 0;
    sim_options.reset_per_mille = 0;
    sim_options.refuse_per_mille = 0;
    sim_options.memory_per_mille = 0;
}

void sim_begin(uint64_t seed, bool trace)
{
    sim_options = (struct sim_options){.seed = seed, .trace = trace};
    state[0] = splitmix(&seed);
    state[1] = splitmix(&seed);
}

void sim_start(void)
{
    struct sim_program *p = &sim_programs[sim_process];
    struct failure why;

    p->workers = runtime_workers();
    for (unsigned i = 0; i < runtime_workers(); i++) {
        struct worker *w = runtime_worker(i);

        p->worker[i] = w;
        strand_adopt_thread(&w->strand);
        if (i > 0 && w->engine->init(w, &why) != 0)
            sim_fail("worker %u: %s", i, why.text);
    }
    worker_adopt(NULL);
}

unsigned sim_workers(void)
{
    return sim_options.workers;
}

void sim_join(void)
{
    for (unsigned i = 0; i < sim_options.workers; i++) {
        struct sim_turn *t = &sim_programs[sim_process].turns[i];

        *t = (struct sim_turn){.weight = 1 + (unsigned)sim_below(sim_chance(300) ? WEIGHT_MAX : 3)};
    }
    sim_world.engine = sim_options.readiness ? &io_sim_epoll_engine : &io_sim_engine;
    world_simulated = &sim_world;
    actor_batch = sim_chance(500) ? 1 : 1 + (unsigned)sim_below(64);
}

void sim_configure(const struct sim_options *options)
{
    uint64_t seed = sim_options.seed;
    bool trace = sim_options.trace;

    sim_options = *options;
    sim_options.seed = seed;
    sim_options.trace = trace;
    if (sim_programs[sim_process].pid == 0)
        sim_programs[sim_process].pid = SIM_PID_FIRST;
    sim_join();
}
