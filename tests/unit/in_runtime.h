/* in_runtime.h: a test that needs workers runs in a child process of its own: types, identities
 * and caches of one case do not reach the next, and a lost wake-up ends in an alarm. */
#ifndef TESTS_IN_RUNTIME_H
#define TESTS_IN_RUNTIME_H

#include "runtime/io.h"
#include "runtime/sanitizer.h"
#include "runtime/worker.h"
#include "tests/unit/unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_NO_ENGINE = 77, WATCHDOG_SECONDS = 600 };

#ifdef WITH_TSAN
/* Each child would sleep for a second before it ends. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "atexit_sleep_ms=0";
}
#endif

static const char *const runtime_engines[] = {"epoll", "io_uring"};
static const unsigned runtime_counts[] = {1, 2, 4};

static inline int in_child(const char *engine, unsigned workers, void (*start)(struct worker *w),
                           void (*check)(void))
{
    struct runtime_options options = {.workers = workers, .engine = engine};
    struct failure why;

    alarm(WATCHDOG_SECONDS);
    if (runtime_init(&options, &why) != 0)
        return EXIT_NO_ENGINE;
    start(runtime_worker(0));
    if (runtime_start(&why) != 0) {
        unit_fail(__FILE__, __LINE__, "runtime_start: %s", why.text);
        return 1;
    }
    runtime_run();
    runtime_fini();
    if (check != NULL)
        check();
    return unit_failed();
}

/* start() prepares actors before any worker runs; somebody calls runtime_stop() in the end. */
UNUSED static void in_runtime_with(const char *engine, unsigned workers,
                                   void (*start)(struct worker *w), void (*check)(void))
{
    int status = 0;

    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        exit(in_child(engine, workers, start, check));
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_ENGINE) {
        printf("skipped: %s is not available\n", engine);
        return;
    }
    EQ(status, 0, "with %s and %u workers", engine, workers);
}

UNUSED static void in_runtime(void (*start)(struct worker *w), void (*check)(void))
{
    for (size_t e = 0; e < COUNT_OF(runtime_engines); e++) {
        for (size_t n = 0; n < COUNT_OF(runtime_counts); n++)
            in_runtime_with(runtime_engines[e], runtime_counts[n], start, check);
    }
}

/* The child must end by a broken invariant. */
UNUSED static void breaks_invariant(void (*start)(struct worker *w), const char *what)
{
    int status = 0;

    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        _exit(in_child("epoll", 1, start, NULL));
    }
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s (status %x)", what, status);
}

#endif
