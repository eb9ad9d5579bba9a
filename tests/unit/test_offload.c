#include "runtime/offload.h"
#include "tests/unit/in_runtime.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

static void (*chosen)(struct worker *w);

static void on_coroutine(struct coroutine *co, void *argument)
{
    (void)argument;
    chosen(co->worker);
    offload_stop();
    runtime_stop();
}

static void start(struct worker *w)
{
    offload_start(4);
    worker_spawn(w, on_coroutine, NULL);
}

static void run(void (*test)(struct worker *w))
{
    chosen = test;
    in_runtime(start, NULL);
}

static void sleep_2ms(void *argument)
{
    usleep(2000);
    atomic_fetch_add((_Atomic int *)argument, 1);
}

enum { JOBS = 40 };
static _Atomic int jobs_run;
static _Atomic int jobs_ended;

static void one_job(struct coroutine *co, void *argument)
{
    (void)argument;
    EQ(offload_run(co->worker, sleep_2ms, (void *)&jobs_run), 0);
    CHECK(worker_self() == co->worker);
    atomic_fetch_add(&jobs_ended, 1);
}

static void many(struct worker *w)
{
    uint64_t began = clock_us();

    for (unsigned i = 0; i < JOBS; i++)
        worker_spawn(runtime_worker(i % runtime_workers()), one_job, NULL);
    while (atomic_load(&jobs_ended) < JOBS)
        wait_sleep(w, 500);
    EQ(atomic_load(&jobs_run), JOBS);
    CHECK(offload_threads() >= 1 && offload_threads() <= 4, "%u", offload_threads());
    EQ(offload_queued(), 0);
    CHECK(clock_us() - began < JOBS * 20000u);
}

TEST(blocking_work_runs_elsewhere_on_few_threads)
{
    run(many);
}

static _Atomic int released;

static void release(void *argument)
{
    free(argument);
    atomic_fetch_add(&released, 1);
}

static void sleep_long(void *argument)
{
    usleep(20000);
    *(int *)argument = 1;
}

static _Atomic bool given_up;

/* However slow this machine is, the deadline comes first. */
static void outlast(void *argument)
{
    while (!atomic_load(&given_up))
        usleep(1000);
    *(int *)argument = 1;
}

static void deadlines(struct worker *w)
{
    int *argument = calloc(1, sizeof *argument);

    atomic_store(&given_up, false);
    atomic_store(&released, 0);
    EQ(offload_run_until(w, outlast, argument, release, clock_us() + 2000), -ETIMEDOUT);
    EQ(atomic_load(&released), 0);
    atomic_store(&given_up, true);
    while (atomic_load(&released) == 0)
        wait_sleep(w, 1000);
    argument = calloc(1, sizeof *argument);
    EQ(offload_run_until(w, sleep_long, argument, release, clock_us() + 10000000), 0);
    EQ(*argument, 1);
    free(argument);
    /* The deadline and the end in one turn. */
    for (int i = 0; i < 50; i++) {
        int *mine = calloc(1, sizeof *mine);
        int before = atomic_load(&released);
        int result = offload_run_until(w, sleep_long, mine, release, clock_us() + 20100);

        CHECK(result == 0 || result == -ETIMEDOUT);
        if (result == 0)
            free(mine);
        else
            while (atomic_load(&released) == before)
                wait_sleep(w, 100);
        if (i > 10 && runtime_workers() > 1)
            break;
    }
    offload_stop();
    EQ(offload_run_until(w, sleep_long, NULL, release, 0), -ECANCELED);
}

TEST(a_deadline_leaves_the_work_to_the_helper)
{
    run(deadlines);
}

static void resolving(struct worker *w)
{
    static const struct {
        const char *host;
        int family; /* 0: fails */
        const char *address;
    } rows[] = {
        {"127.0.0.1", AF_INET, "127.0.0.1"},
        {"::1", AF_INET6, "::1"},
        {"[::1]", AF_INET6, "::1"},
        {"[2001:db8::7]", AF_INET6, "2001:db8::7"},
        {"localhost", AF_UNSPEC, NULL},
        {"[localhost]", 0, NULL},
        {"", 0, NULL},
        {"[]", 0, NULL},
        {"no-such-host.invalid", 0, NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sockaddr_storage at = {0};
        socklen_t len = 0;
        struct failure why = {""};
        char text[INET6_ADDRSTRLEN] = "";
        bool fails = rows[i].family == 0 && rows[i].address == NULL &&
                     strcmp(rows[i].host, "localhost") != 0;
        int result = io_resolve(w, rows[i].host, 5432, &at, &len, &why);

        EQ(result, fails ? -1 : 0, "%s: %s", rows[i].host, why.text);
        CHECK(fails == (why.text[0] != '\0'), "%s", rows[i].host);
        if (result != 0 || rows[i].address == NULL)
            continue;
        EQ(at.ss_family, rows[i].family, "%s", rows[i].host);
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&at;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&at;
        const void *address = at.ss_family == AF_INET ? (const void *)&v4->sin_addr
                                                      : &v6->sin6_addr;
        EQ(ntohs(at.ss_family == AF_INET ? v4->sin_port : v6->sin6_port), 5432);
        STR_EQ(inet_ntop(at.ss_family, address, text, sizeof text), rows[i].address);
    }
}

TEST(hosts_become_addresses)
{
    run(resolving);
}
