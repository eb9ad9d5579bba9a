/* simulate: runs the pooler in a simulated world, once for each seed.
 *
 * Each seed has a process of its own, so that a failed one takes nothing with it and none finds
 * anything of another. */
#include "tests/simulation/run.h"

#include "actors/app.h"
#include "runtime/crash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FAILURES_TOLD = 10 };

struct options {
    uint64_t first;
    uint64_t count;
    unsigned jobs;
    bool trace;
    bool twice;
    bool stop;
};

/* What a child leaves for its parent. */
struct result {
    uint64_t hash;
    uint64_t steps;
};

struct child {
    pid_t pid;
    uint64_t seed;
};

static struct options options = {.first = 1, .count = 100, .jobs = 0};
static struct result *results; /* by job; shared with the children */

static const char *flight_name(uint8_t type, uint16_t kind)
{
    (void)type;
    return message_kind_name(kind);
}

static void report_flight(int fd)
{
    flight_dump(fd, flight_name);
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

NO_RETURN static void usage(void)
{
    fprintf(stderr,
            "usage: simulate [--seed N] [--seeds N] [--jobs N] [--trace] [--twice] [--upgrades]\n"
            "                [--stop]\n"
            "  --seed N    the first seed (1)\n"
            "  --seeds N   how many (100; with --seed alone: 1)\n"
            "  --jobs N    at a time (as many as there are processors)\n"
            "  --trace     tell each step\n"
            "  --twice     run each seed twice and compare the traces' hashes\n"
            "  --upgrades  in every run, not only in some\n"
            "  --stop      end with the first failure\n");
    exit(2);
}

static uint64_t number(int argc, char **argv, int *at)
{
    char *end;

    if (++*at >= argc)
        usage();
    uint64_t value = strtoull(argv[*at], &end, 10);
    if (*end != '\0')
        usage();
    return value;
}

static void parse(int argc, char **argv)
{
    bool counted = false;
    bool seeded = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0) {
            options.first = number(argc, argv, &i);
            seeded = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            options.count = number(argc, argv, &i);
            counted = true;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            options.jobs = (unsigned)number(argc, argv, &i);
        } else if (strcmp(argv[i], "--trace") == 0) {
            options.trace = true;
        } else if (strcmp(argv[i], "--twice") == 0) {
            options.twice = true;
        } else if (strcmp(argv[i], "--upgrades") == 0) {
            upgrades_wanted = true;
        } else if (strcmp(argv[i], "--stop") == 0) {
            options.stop = true;
        } else {
            usage();
        }
    }
    if (seeded && !counted)
        options.count = 1;
    if (options.jobs == 0)
        options.jobs = (unsigned)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
}

static pid_t begin(uint64_t seed, struct result *result)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    alarm(300);
    run_seed(seed, options.trace);
    result->hash = sim_hash();
    result->steps = sim_steps();
    fflush(NULL);
    _exit(0);
}

/* False: it failed. */
static bool ended_well(uint64_t seed, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    printf("FAILED seed %llu (%s %d); again with: simulate --seed %llu --trace\n",
           (unsigned long long)seed, WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), (unsigned long long)seed);
    fflush(stdout);
    return false;
}

static bool run_again(uint64_t seed, struct result before)
{
    struct result *again = &results[options.jobs];
    int status = 0;

    pid_t pid = begin(seed, again);
    waitpid(pid, &status, 0);
    if (again->hash == before.hash && again->steps == before.steps)
        return true;
    printf("FAILED seed %llu: the second run is another one (%llu and %llu steps)\n",
           (unsigned long long)seed, (unsigned long long)before.steps,
           (unsigned long long)again->steps);
    return false;
}

int main(int argc, char **argv)
{
    struct child *children;
    uint64_t failed = 0;
    uint64_t done = 0;
    uint64_t steps = 0;
    uint64_t next = 0;
    unsigned running = 0;

    parse(argc, argv);
    crash_install();
    crash_on_report(report_flight);
    children = calloc(options.jobs, sizeof *children);
    results = mmap(NULL, (options.jobs + 1) * sizeof *results, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (children == NULL || results == MAP_FAILED)
        return 2;
    run_prepare();
    double start = seconds();
    while (next < options.count || running > 0) {
        while (running < options.jobs && next < options.count) {
            unsigned slot = 0;

            while (children[slot].pid != 0)
                slot++;
            uint64_t seed = options.first + next++;
            children[slot] = (struct child){begin(seed, &results[slot]), seed};
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        for (unsigned slot = 0; slot < options.jobs; slot++) {
            if (children[slot].pid != pid)
                continue;
            struct child child = children[slot];

            children[slot].pid = 0;
            running--;
            done++;
            bool well = ended_well(child.seed, status);
            steps += well ? results[slot].steps : 0;
            if (well && options.twice)
                well = run_again(child.seed, results[slot]);
            failed += !well;
            if (!well && (options.stop || failed >= FAILURES_TOLD))
                next = options.count;
        }
    }
    free(children);
    double took = seconds() - start;
    printf("%llu seeds from %llu, %.0f seeds a minute, %.0f steps a seed\n",
           (unsigned long long)done, (unsigned long long)options.first, (double)done * 60 / took,
           (double)steps / (double)MAX(done - failed, (uint64_t)1));
    if (options.count == 1 && failed == 0)
        printf("hash %016llx\n", (unsigned long long)results[0].hash);
    printf("%llu passed, %llu failed\n", (unsigned long long)(done - failed),
           (unsigned long long)failed);
    return failed > 0;
}
