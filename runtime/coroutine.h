/* coroutine.h: stackful coroutines on borrowed stacks.
 *
 * A coroutine runs one function on a stack from its worker's cache and never leaves that worker:
 * only what is parked (an actor without a stack) moves between threads. Its creator resumes it;
 * it suspends back to the worker's own stack, and its stack goes home when the function returns.
 * All calls are for the worker's own thread.
 */
#ifndef RUNTIME_COROUTINE_H
#define RUNTIME_COROUTINE_H

#include "runtime/base.h"

struct worker;
struct actor;

enum { STACK_SIZE = 64 << 10, STACKS_PER_SLAB = 64 };

struct stack {
    uint8_t *floor; /* lowest usable address; the guard page lies below */
    size_t size;
    void *tsan_fiber;
    bool touched; /* since its memory was last given back */
    struct stack *next;
};

/* Stacks that are not in use, last in first out. One per worker. */
struct stack_cache {
    struct stack *free;
    uint32_t cached;
    uint32_t touched; /* of those cached */
    uint32_t in_use;
    uint32_t in_use_max;
    uint32_t total;
};
/* Never NULL: running out of address space ends the process with a message. */
struct stack *stack_take(struct stack_cache *cache);
void stack_give(struct stack_cache *cache, struct stack *stack);
/* Gives the memory of idle stacks beyond `keep` back to the kernel (not the addresses). */
void stack_cache_trim(struct stack_cache *cache, uint32_t keep);

/* Where a thread of control stands when it does not run. */
struct strand {
    void *sp;
    void *fake_stack; /* AddressSanitizer's */
    const uint8_t *floor;
    size_t size;
    void *tsan_fiber;
};

struct coroutine {
    struct strand strand;
    struct stack *stack;
    struct worker *worker;
    void (*run)(struct coroutine *self, void *argument);
    void *argument;
    struct actor *actor;    /* whose message it handles; NULL: nobody's */
    struct coroutine *next; /* in the worker's list of those to resume */
    uint64_t wait;          /* identity of the wait it is suspended in; 0 = none */
    int64_t result;         /* of that wait */
    bool done;
};

/* The thread's own stack: call once per thread before the first coroutine. */
void strand_adopt_thread(struct strand *strand);

/* Takes a stack and runs the function until it suspends or returns. From the worker's own stack
 * only. */
void coroutine_run(struct worker *w, void (*run)(struct coroutine *, void *), void *argument);
/* Continues a suspended coroutine; from the worker's own stack only. */
void coroutine_resume(struct worker *w, struct coroutine *co);
/* Suspends the running coroutine until its wait is ended; returns the wait's result. */
int64_t coroutine_suspend(struct worker *w);

#endif
