/* Stacks come from slabs: one mapping of many stacks, each with a guard page below it. Guards by
 * MADV_GUARD_INSTALL (Linux 6.13) keep the slab one mapping; mprotect splits it, and a process has
 * only vm.max_map_count mappings (65,530 by default). */
#include "runtime/coroutine.h"
#include "runtime/sanitizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { GUARD = 4096, RECORD_READABLE = 256 };
_Static_assert(sizeof(struct coroutine) <= RECORD_READABLE, "the record at the top of a stack");

static size_t stack_bytes(void)
{
    return STACK_SIZE * SANITIZER_STACK_FACTOR;
}

NO_RETURN COLD static void no_stack(const char *what)
{
    fprintf(stderr, "pg_doorman: no memory for coroutine stacks: %s: %s\n", what, strerror(errno));
    abort();
}

static void slab_add(struct stack_cache *cache)
{
    size_t each = stack_bytes();
    uint8_t *slab = mmap(NULL, each * STACKS_PER_SLAB, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (slab == MAP_FAILED)
        no_stack("mmap");
    /* A huge page would back a stack of which two pages are touched. */
    madvise(slab, each * STACKS_PER_SLAB, MADV_NOHUGEPAGE);
    for (int i = 0; i < STACKS_PER_SLAB; i++) {
        uint8_t *base = slab + (size_t)i * each;
        struct stack *stack = malloc(sizeof *stack);

        if (stack == NULL)
            no_stack("malloc");
        if (madvise(base, GUARD, MADV_GUARD_INSTALL) != 0 && mprotect(base, GUARD, PROT_NONE) != 0)
            no_stack("guard page");
        stack->floor = base + GUARD;
        stack->size = each - GUARD;
        stack->tsan_fiber = tsan_create_fiber();
        stack->touched = false;
        lsan_register_root(stack->floor, stack->size); /* not the guard: it is read */
        stack->next = cache->free;
        cache->free = stack;
        asan_poison(stack->floor, stack->size);
    }
    cache->cached += STACKS_PER_SLAB;
    cache->total += STACKS_PER_SLAB;
}

struct stack *stack_take(struct stack_cache *cache)
{
    if (cache->free == NULL)
        slab_add(cache);
    struct stack *stack = cache->free;
    cache->free = stack->next;
    cache->cached--;
    cache->touched -= stack->touched;
    stack->touched = true;
    cache->in_use++;
    cache->in_use_max = MAX(cache->in_use_max, cache->in_use);
    asan_unpoison(stack->floor, stack->size);
    return stack;
}

void stack_give(struct stack_cache *cache, struct stack *stack)
{
    INVARIANT(cache->in_use > 0);
    /* So that a pointer into it is caught; but a late wait_end() looks at the coroutine's record.
     */
    asan_poison(stack->floor, stack->size - RECORD_READABLE);
    cache->touched++;
    stack->next = cache->free;
    cache->free = stack;
    cache->in_use--;
    cache->cached++;
}

void stack_cache_trim(struct stack_cache *cache, uint32_t keep)
{
    uint32_t seen = 0;

    for (struct stack *stack = cache->free; stack != NULL; stack = stack->next) {
        if (seen++ < keep || !stack->touched)
            continue;
        madvise(stack->floor, stack->size, MADV_DONTNEED);
        stack->touched = false;
        cache->touched--;
    }
}
