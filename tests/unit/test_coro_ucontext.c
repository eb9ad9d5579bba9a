/* The portable switch, which no build for a known processor uses, under names of its own. */
#ifndef DOORMAN_UCONTEXT
#define DOORMAN_UCONTEXT
#endif
#define coro_swap    portable_swap
#define coro_prepare portable_prepare
#include "runtime/coro_switch.c"
#include "runtime/sanitizer.h"
#include "tests/unit/unit.h"

UNUSED static void *main_sp;
static void *other_sp;
static int steps;
UNUSED static uint8_t stack[256 << 10] __attribute__((aligned(16)));

UNUSED static void other(void *argument)
{
    double kept = 0.25;

    for (int i = 0;; i++) {
        steps += *(int *)argument;
        kept += i;
        CHECK(kept == 0.25 + i * (i + 1) / 2);
        portable_swap(&other_sp, main_sp);
    }
}

TEST(the_portable_switch_goes_there_and_back)
{
#if !defined(WITH_TSAN) && !defined(WITH_ASAN)
    int step = 3;

    other_sp = portable_prepare(stack, sizeof stack, other, &step);
    for (int i = 1; i <= 1000; i++) {
        portable_swap(&main_sp, other_sp);
        EQ(steps, 3 * i);
    }
#endif
}
