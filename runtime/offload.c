#include "runtime/offload.h"

#include "runtime/worker.h"
#include "runtime/world.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { IDLE_SECONDS = 10, STOP_SECONDS = 1, THREAD_STACK_BYTES = 1 << 20 };

/* Work on its way: queue, helper thread, then back as a post. But for `run`, all of it belongs to
 * the worker's thread. */
struct job {
    struct post post;
    struct job *next;
    void (*run)(void *argument);
    void (*release)(void *argument);
    void *argument;
    struct worker *worker;
    struct wait wait;
    bool ended;
    bool abandoned;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER; /* a job, or the end */
static pthread_cond_t gone = PTHREAD_COND_INITIALIZER; /* a thread has ended */
static struct job *first;
static struct job **last = &first;
static unsigned queued;
static unsigned threads;
static unsigned idle;
static unsigned threads_limit;

static struct timespec seconds_from_now(int seconds)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += seconds;
    return at;
}

void offload_start(unsigned threads_max)
{
    pthread_mutex_lock(&lock);
    threads_limit = threads_max;
    pthread_mutex_unlock(&lock);
}

void offload_stop(void)
{
    struct timespec until = seconds_from_now(STOP_SECONDS);

    pthread_mutex_lock(&lock);
    threads_limit = 0;
    pthread_cond_broadcast(&work);
    while (threads > 0) {
        if (pthread_cond_clockwait(&gone, &lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&lock);
}

unsigned offload_threads(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = threads;
    pthread_mutex_unlock(&lock);
    return count;
}

unsigned offload_queued(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = queued;
    pthread_mutex_unlock(&lock);
    return count;
}

/* --- helper threads --- */

/* With the lock. The next job; NULL when there was none for long enough, or for ever. */
static struct job *job_await(void)
{
    struct timespec until = seconds_from_now(IDLE_SECONDS);
    int result = 0;

    idle++;
    while (first == NULL && threads_limit > 0 && result != ETIMEDOUT)
        result = pthread_cond_clockwait(&work, &lock, CLOCK_MONOTONIC, &until);
    idle--;
    struct job *job = first;
    if (job == NULL)
        return NULL;
    first = job->next;
    if (first == NULL)
        last = &first;
    queued--;
    return job;
}

static void *thread_main(void *nothing)
{
    struct job *job;

    (void)nothing;
    pthread_mutex_lock(&lock);
    while ((job = job_await()) != NULL) {
        pthread_mutex_unlock(&lock);
        job->run(job->argument);
        worker_post(job->worker, &job->post);
        pthread_mutex_lock(&lock);
    }
    threads--;
    pthread_cond_broadcast(&gone);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* With the lock. Signals are for the threads that expect them. */
static int thread_add(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    int error = pthread_create(&thread, &attributes, thread_main, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return -error;
    pthread_setname_np(thread, "helper-pg-doorm");
    threads++;
    return 0;
}

/* In place of a thread. */
static void job_run(void *argument)
{
    struct job *job = argument;

    job->run(job->argument);
    worker_post(job->worker, &job->post);
}

static int job_submit(struct job *job)
{
    int result = 0;

    if (world_simulated != NULL)
        return world_simulated->help(job_run, job);
    pthread_mutex_lock(&lock);
    if (queued >= idle && threads < threads_limit)
        thread_add();
    if (threads == 0 || threads_limit == 0) {
        result = -ECANCELED;
    } else {
        *last = job;
        last = &job->next;
        queued++;
        pthread_cond_signal(&work);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* --- on the worker --- */

static void job_ended(struct worker *w, struct post *post)
{
    struct job *job = CONTAINER_OF(post, struct job, post);

    if (job->abandoned) {
        job->release(job->argument);
        free(job);
        return;
    }
    job->ended = true;
    wait_end(w, job->wait, 0);
}

int offload_run_until(struct worker *w, void (*run)(void *argument), void *argument,
                      void (*release)(void *argument), uint64_t deadline_us)
{
    struct job *job = calloc(1, sizeof *job);

    INVARIANT(job != NULL && w->coroutine != NULL && (deadline_us == 0 || release != NULL));
    *job = (struct job){
        .post.run = job_ended, .run = run, .release = release, .argument = argument, .worker = w};
    job->wait = wait_begin(w);
    int result = job_submit(job);
    if (result != 0)
        wait_end(w, job->wait, result);
    result = (int)wait_suspend(w, deadline_us);
    /* It may have ended in the turn in which the deadline passed. */
    if (result == -ETIMEDOUT && !job->ended) {
        job->abandoned = true;
        return -ETIMEDOUT;
    }
    free(job);
    return result == -ETIMEDOUT ? 0 : result;
}

int offload_run(struct worker *w, void (*run)(void *argument), void *argument)
{
    return offload_run_until(w, run, argument, NULL, 0);
}
