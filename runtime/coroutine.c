#include "runtime/coroutine.h"
#include "runtime/coro_switch.h"
#include "runtime/sanitizer.h"
#include "runtime/worker.h"

#if defined(WITH_ASAN)
#include <pthread.h>
#endif

void strand_adopt_thread(struct strand *strand)
{
    *strand = (struct strand){.tsan_fiber = tsan_current_fiber()};
#if defined(WITH_ASAN)
    pthread_attr_t attributes;
    void *floor;

    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &floor, &strand->size);
        strand->floor = floor;
        pthread_attr_destroy(&attributes);
    }
#endif
}

/* Itself not instrumented by TSan: nothing may lie between the announcement and the swap. */
NO_TSAN static void strand_swap(struct strand *from, struct strand *to, bool for_good)
{
    asan_start_switch(for_good ? NULL : &from->fake_stack, to->floor, to->size);
    tsan_switch_to(to->tsan_fiber);
    coro_swap(&from->sp, to->sp);
    asan_finish_switch(from->fake_stack, NULL, NULL); /* here again, on the same worker */
}

NO_TSAN static void coroutine_main(void *argument)
{
    struct coroutine *co = argument;
    struct worker *w = co->worker;

    asan_finish_switch(NULL, NULL, NULL);
    co->run(co, co->argument);
    co->done = true;
    strand_swap(&co->strand, &w->strand, true);
    INVARIANT(!"a finished coroutine was resumed");
}

/* The record lives at the top of its own stack: one allocation serves both. */
static struct coroutine *coroutine_place(struct worker *w)
{
    struct stack *stack = stack_take(&w->stacks);
    size_t room = (sizeof(struct coroutine) + 63) & ~(size_t)63;
    struct coroutine *co = (struct coroutine *)(void *)(stack->floor + stack->size - room);

    *co = (struct coroutine){.stack = stack, .worker = w};
    co->strand.floor = stack->floor;
    co->strand.size = stack->size - room;
    co->strand.tsan_fiber = stack->tsan_fiber;
    return co;
}

void coroutine_run(struct worker *w, void (*run)(struct coroutine *, void *), void *argument)
{
    struct coroutine *co = coroutine_place(w);

    co->run = run;
    co->argument = argument;
    co->strand.sp = coro_prepare(co->stack->floor, co->strand.size, coroutine_main, co);
    coroutine_resume(w, co);
}

void coroutine_resume(struct worker *w, struct coroutine *co)
{
    INVARIANT(w->coroutine == NULL && co->worker == w);
    INVARIANT(!co->done);
    w->coroutine = co;
    strand_swap(&w->strand, &co->strand, false);
    w->coroutine = NULL;
    if (co->done)
        stack_give(&w->stacks, co->stack);
}

int64_t coroutine_suspend(struct worker *w)
{
    struct coroutine *co = w->coroutine;

    INVARIANT(co != NULL);           /* only what runs on a borrowed stack may wait, */
    INVARIANT(w->inline_depth == 0); /* and never in another actor's handler */
    strand_swap(&co->strand, &w->strand, false);
    return co->result;
}
