#include "runtime/coro_switch.h"

#if defined(__x86_64__) && !defined(DOORMAN_UCONTEXT)

void coro_entry(void);

void *coro_prepare(uint8_t *floor, size_t size, void (*run)(void *), void *argument)
{
    /* Laid out as coro_swap pops it: r15 r14 r13 r12 rbx rbp, then the return address. The ABI
     * wants rsp + 8 to be a multiple of 16 at a function's entry; coro_entry makes a call itself,
     * so it starts aligned to 16. */
    uint64_t *top = (uint64_t *)(void *)(floor + size - 64);

    top[0] = 0;
    uint64_t *sp = top - 7;
    sp[0] = 0;                   /* r15 */
    sp[1] = 0;                   /* r14 */
    sp[2] = (uintptr_t)argument; /* r13 */
    sp[3] = (uintptr_t)run;      /* r12 */
    sp[4] = 0;                   /* rbx */
    sp[5] = 0;                   /* rbp */
    sp[6] = (uintptr_t)coro_entry;
    return sp;
}

#elif defined(__aarch64__) && !defined(DOORMAN_UCONTEXT)

void coro_entry(void);

void *coro_prepare(uint8_t *floor, size_t size, void (*run)(void *), void *argument)
{
    uint64_t *sp = (uint64_t *)(void *)(floor + size - 64 - 160);

    memset(sp, 0, 160);
    sp[0] = (uintptr_t)run;         /* x19 */
    sp[1] = (uintptr_t)argument;    /* x20 */
    sp[11] = (uintptr_t)coro_entry; /* x30 */
    return sp;
}

#else

#include <stdlib.h>
#include <ucontext.h>

/* The "stack pointer" is the address of a ucontext_t. One that was made by a swap lies on the
 * swapping function's own stack, which stays put while it is suspended. */
void coro_swap(void **save_sp, void *load_sp)
{
    ucontext_t here;

    *save_sp = &here;
    INVARIANT(swapcontext(&here, load_sp) == 0);
}

static void trampoline(unsigned run_hi, unsigned run_lo, unsigned argument_hi, unsigned argument_lo)
{
    void (*run)(void *) = (void (*)(void *))((uintptr_t)run_hi << 32 | run_lo);

    run((void *)((uintptr_t)argument_hi << 32 | argument_lo));
}

void *coro_prepare(uint8_t *floor, size_t size, void (*run)(void *), void *argument)
{
    ucontext_t *context = (ucontext_t *)(void *)floor;

    INVARIANT(getcontext(context) == 0);
    context->uc_stack.ss_sp = floor + sizeof *context + 64;
    context->uc_stack.ss_size = size - sizeof *context - 64;
    context->uc_link = NULL;
    makecontext(context, (void (*)(void))trampoline, 4, (unsigned)((uintptr_t)run >> 32),
                (unsigned)(uintptr_t)run, (unsigned)((uintptr_t)argument >> 32),
                (unsigned)(uintptr_t)argument);
    return context;
}

#endif
