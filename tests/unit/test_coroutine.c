/* Coroutines and stacks under a worker that exists in memory only: the test plays its loop. */
#include "runtime/coroutine.h"
#include "runtime/sanitizer.h"
#include "runtime/worker.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static struct worker worker __attribute__((aligned(CACHE_LINE)));
static char trace[256];

static void note(char c)
{
    size_t len = strlen(trace);

    if (len + 1 < sizeof trace)
        trace[len] = c;
}

static void worker_prepare(void)
{
    if (worker.strand.tsan_fiber == NULL)
        strand_adopt_thread(&worker.strand);
    memset(trace, 0, sizeof trace);
    EQ(worker.stacks.in_use, 0);
}

/* What the loop does with those whose wait has ended. */
static void resume_all(void)
{
    struct coroutine *co = worker.resume_head;

    worker.resume_head = worker.resume_tail = NULL;
    while (co != NULL) {
        struct coroutine *next = co->next;

        coroutine_resume(&worker, co);
        co = next;
    }
}

static struct wait waits[4];

static void two_waits(struct coroutine *co, void *argument)
{
    int64_t number = (intptr_t)argument;

    CHECK(worker.coroutine == co);
    note((char)('a' + number));
    for (int i = 0; i < 2; i++) {
        waits[number] = wait_begin(&worker);
        EQ(wait_suspend(&worker, 0), 100 * i + number);
        note((char)((i == 0 ? 'A' : '0') + number));
    }
}

TEST(coroutines_interleave_in_the_order_in_which_their_waits_end)
{
    worker_prepare();
    for (intptr_t i = 0; i < 3; i++)
        coroutine_run(&worker, two_waits, (void *)i);
    CHECK(worker.coroutine == NULL);
    STR_EQ(trace, "abc");
    EQ(worker.stacks.in_use, 3);
    wait_end(&worker, waits[2], 2);
    wait_end(&worker, waits[0], 0);
    resume_all();
    STR_EQ(trace, "abcCA");
    wait_end(&worker, waits[2], 102);
    wait_end(&worker, waits[1], 1);
    resume_all();
    STR_EQ(trace, "abcCA2B");
    wait_end(&worker, waits[0], 100);
    wait_end(&worker, waits[1], 101);
    resume_all();
    STR_EQ(trace, "abcCA2B01");
    EQ(worker.stacks.in_use, 0);
}

static void one_wait(struct coroutine *co, void *argument)
{
    (void)co;
    *(struct wait *)argument = wait_begin(&worker);
    EQ(wait_suspend(&worker, 0), 7);
}

TEST(a_wait_ends_once_and_late_calls_do_nothing)
{
    struct wait first;
    struct wait second;

    worker_prepare();
    coroutine_run(&worker, one_wait, &first);
    CHECK(wait_pending(first));
    wait_end(&worker, first, 7);
    CHECK(!wait_pending(first));
    wait_end(&worker, first, 8);
    resume_all();
    CHECK(worker.resume_head == NULL);
    wait_end(&worker, first, 9); /* its stack has gone home */
    coroutine_run(&worker, one_wait, &second);
    CHECK(second.co == first.co, "the same stack again");
    wait_end(&worker, first, 10);
    CHECK(wait_pending(second));
    wait_end(&worker, second, 7);
    resume_all();
    stack_cache_trim(&worker.stacks, 0);
    wait_end(&worker, second, 11); /* and was cleared */
    CHECK(worker.resume_head == NULL);
}

static void wait_for_deadline(struct coroutine *co, void *argument)
{
    (void)co;
    *(struct wait *)argument = wait_begin(&worker);
    EQ(wait_suspend(&worker, 1000), -ETIMEDOUT);
}

TEST(a_deadline_ends_a_wait_and_a_result_in_the_same_turn_comes_too_late)
{
    struct wait wait;

    worker_prepare();
    coroutine_run(&worker, wait_for_deadline, &wait);
    timer_run(&worker.timers, &worker, 999);
    CHECK(wait_pending(wait));
    timer_run(&worker.timers, &worker, 1000);
    wait_end(&worker, wait, 5);
    resume_all();
    EQ(worker.stacks.in_use, 0);
}

static void wait_with_deadline(struct coroutine *co, void *argument)
{
    (void)co;
    *(struct wait *)argument = wait_begin(&worker);
    EQ(wait_suspend(&worker, 1000), 7);
}

TEST(a_deadline_that_passes_before_the_resumption_is_too_late_too)
{
    struct wait wait;

    worker_prepare();
    coroutine_run(&worker, wait_with_deadline, &wait);
    wait_end(&worker, wait, 7);
    timer_run(&worker.timers, &worker, 2000);
    resume_all();
    EQ(worker.timers.count, 0);
    EQ(worker.stacks.in_use, 0);
}

static void wait_that_is_over(struct coroutine *co, void *argument)
{
    struct wait wait = wait_begin(&worker);

    (void)co;
    (void)argument;
    wait_end(&worker, wait, 7);
    EQ(wait_suspend(&worker, 1000), 7);
}

TEST(a_wait_that_ended_before_it_was_waited_for_has_no_deadline)
{
    worker_prepare();
    coroutine_run(&worker, wait_that_is_over, NULL);
    timer_run(&worker.timers, &worker, 2000);
    resume_all();
    EQ(worker.timers.count, 0);
    EQ(worker.stacks.in_use, 0);
}

enum { MANY = 1000 };
static struct wait many[MANY];

static void hold_values(struct coroutine *co, void *argument)
{
    uint64_t number = (uintptr_t)argument;
    volatile uint64_t copy = number * 3;
    double fraction = (double)number / 7;

    (void)co;
    for (int i = 0; i < 5; i++) {
        many[number] = wait_begin(&worker);
        EQ(wait_suspend(&worker, 0), number + (uint64_t)i);
        fraction += 0.5;
    }
    EQ(copy, number * 3);
    CHECK(fraction == (double)number / 7 + 0.5 + 0.5 + 0.5 + 0.5 + 0.5);
}

TEST(many_coroutines_keep_what_is_theirs)
{
    worker_prepare();
    for (uintptr_t i = 0; i < MANY; i++)
        coroutine_run(&worker, hold_values, (void *)i);
    EQ(worker.stacks.in_use, MANY);
    for (int turn = 0; turn < 5; turn++) {
        for (int i = 0; i < MANY; i++)
            wait_end(&worker, many[(i * 7) % MANY], (i * 7) % MANY + turn);
        resume_all();
    }
    EQ(worker.stacks.in_use, 0);
    EQ(worker.stacks.cached, worker.stacks.total);
}

static void count_up(struct coroutine *co, void *argument)
{
    (void)co;
    ++*(int *)argument;
}

TEST(a_stack_serves_any_number_of_coroutines)
{
    int count = 0;

    worker_prepare();
    for (int i = 0; i < 300000; i++)
        coroutine_run(&worker, count_up, &count);
    EQ(count, 300000);
}

__attribute__((noinline)) static unsigned recurse(unsigned depth)
{
    volatile uint8_t frame[1024];

    memset((void *)(uintptr_t)frame, (int)depth, sizeof frame);
    unsigned below = depth > 0 ? recurse(depth - 1) : 0;
    return below + (frame[depth % sizeof frame] == (uint8_t)depth);
}

static void use_depth(struct coroutine *co, void *argument)
{
    (void)co;
    unsigned depth = *(unsigned *)argument;

    *(unsigned *)argument = recurse(depth);
}

TEST(most_of_a_stack_can_be_used)
{
    unsigned depth = 48;

    worker_prepare();
    coroutine_run(&worker, use_depth, &depth);
    EQ(depth, 49);
}

TEST(a_stack_that_is_too_small_ends_the_process)
{
    int status = 0;

    worker_prepare();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        unsigned depth = 70 * SANITIZER_STACK_FACTOR * 4;

        if (freopen("/dev/null", "w", stderr) != NULL)
            coroutine_run(&worker, use_depth, &depth);
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK(status != 0);
}

static void keep_fractions(struct coroutine *co, void *argument)
{
    volatile double x[8] = {1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5};
    double sum = 0;

    (void)co;
    double a = x[0], b = x[1], c = x[2], d = x[3], e = x[4], f = x[5], g = x[6], h = x[7];
    *(struct wait *)argument = wait_begin(&worker);
    wait_suspend(&worker, 0);
    sum = a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8;
    CHECK(sum == 1.5 + 5 + 10.5 + 18 + 27.5 + 39 + 52.5 + 68);
}

TEST(floating_point_values_survive_a_switch)
{
    struct wait wait;

    worker_prepare();
    coroutine_run(&worker, keep_fractions, &wait);
    volatile double noise = 0;
    for (int i = 1; i < 100; i++)
        noise = noise + 1.0 / i;
    CHECK(noise > 5);
    wait_end(&worker, wait, 0);
    resume_all();
}

static void touch(struct coroutine *co, void *argument)
{
    (void)co;
    *(struct wait *)argument = wait_begin(&worker);
    wait_suspend(&worker, 0);
}

TEST(trimming_gives_back_what_was_used_and_no_more_than_once)
{
    struct wait used[40];

    worker_prepare();
    stack_cache_trim(&worker.stacks, 0);
    EQ(worker.stacks.touched, 0);
    for (int i = 0; i < 40; i++)
        coroutine_run(&worker, touch, &used[i]);
    EQ(worker.stacks.touched, 0, "those are in use");
    for (int i = 0; i < 40; i++)
        wait_end(&worker, used[i], 0);
    resume_all();
    EQ(worker.stacks.touched, 40);
    stack_cache_trim(&worker.stacks, 10);
    EQ(worker.stacks.touched, 10);
    coroutine_run(&worker, touch, &used[0]);
    EQ(worker.stacks.touched, 9, "the last one used is the first one taken");
    wait_end(&worker, used[0], 0);
    resume_all();
    EQ(worker.stacks.touched, 10);
}
