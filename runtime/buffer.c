#include "runtime/buffer.h"

#include "runtime/sanitizer.h"
#include "runtime/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What a worker keeps of each class; beyond that blocks are shared, and beyond twice that freed. */
static const uint32_t keep[RBUF_CLASSES] = {[RBUF_SMALL] = 256, [RBUF_LARGE] = 32};
static const uint32_t bytes[RBUF_CLASSES] = {RBUF_SMALL_BYTES, RBUF_LARGE_BYTES};

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rbuf_cache shared;
static atomic_uint total;

static struct rbuf *pop(struct rbuf_cache *cache, enum rbuf_class class)
{
    struct rbuf *b = cache->free[class];

    if (b != NULL) {
        cache->free[class] = b->next;
        cache->count[class]--;
    }
    return b;
}

static void push(struct rbuf_cache *cache, struct rbuf *b)
{
    b->next = cache->free[b->class];
    cache->free[b->class] = b;
    cache->count[b->class]++;
}

COLD static struct rbuf *take_elsewhere(enum rbuf_class class)
{
    struct rbuf *b;

    pthread_mutex_lock(&shared_lock);
    b = pop(&shared, class);
    pthread_mutex_unlock(&shared_lock);
    if (b != NULL)
        return b;
    b = malloc(sizeof *b + bytes[class]);
    INVARIANT(b != NULL);
    atomic_fetch_add_explicit(&total, 1, memory_order_relaxed);
    b->size = bytes[class];
    b->class = (uint8_t) class;
    return b;
}

struct rbuf *rbuf_take(struct worker *w, enum rbuf_class class)
{
    struct rbuf *b = pop(&w->buffers, class);

    if (UNLIKELY(b == NULL))
        b = take_elsewhere(class);
    asan_unpoison(b->data, b->size);
    b->refs = 1;
    return b;
}

struct rbuf *rbuf_take_exact(size_t size)
{
    struct rbuf *b = malloc(sizeof *b + size);

    INVARIANT(b != NULL && size <= UINT32_MAX);
    atomic_fetch_add_explicit(&total, 1, memory_order_relaxed);
    b->size = (uint32_t)size;
    b->class = RBUF_EXACT;
    b->refs = 1;
    return b;
}

struct rbuf *rbuf_take_bytes(struct worker *w, size_t size)
{
    if (size <= RBUF_SMALL_BYTES)
        return rbuf_take(w, RBUF_SMALL);
    if (size <= RBUF_LARGE_BYTES)
        return rbuf_take(w, RBUF_LARGE);
    return rbuf_take_exact(size);
}

COLD static void give_elsewhere(struct rbuf *b)
{
    bool drop;

    pthread_mutex_lock(&shared_lock);
    drop = shared.count[b->class] >= 2 * keep[b->class];
    if (!drop)
        push(&shared, b);
    pthread_mutex_unlock(&shared_lock);
    if (drop) {
        asan_unpoison(b->data, b->size);
        free(b);
        atomic_fetch_sub_explicit(&total, 1, memory_order_relaxed);
    }
}

void rbuf_give(struct worker *w, struct rbuf *b)
{
    if (UNLIKELY(b->class == RBUF_EXACT)) {
        free(b);
        atomic_fetch_sub_explicit(&total, 1, memory_order_relaxed);
        return;
    }
    asan_poison(b->data, b->size);
    if (LIKELY(w->buffers.count[b->class] < keep[b->class]))
        push(&w->buffers, b);
    else
        give_elsewhere(b);
}

uint32_t rbuf_total(void)
{
    return atomic_load_explicit(&total, memory_order_relaxed);
}

void rbuf_cache_free(struct rbuf_cache *cache)
{
    for (int class = 0; class < RBUF_CLASSES; class ++) {
        struct rbuf *b;

        while ((b = pop(cache, (enum rbuf_class) class)) != NULL) {
            asan_unpoison(b->data, b->size);
            free(b);
            atomic_fetch_sub_explicit(&total, 1, memory_order_relaxed);
        }
    }
}
