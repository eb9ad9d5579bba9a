/* statement_cache.c: a pool's cache: a ring of its statements, and a hand that goes round (CLOCK).
 *
 * A use leaves no mark but the counter of uses, which is counted anyway: the hand spares whoever
 * was used since it came by the last time. So a hit takes no lock and writes nothing here; an
 * admission and an eviction are a few steps, whatever the size.
 *
 * When the texts of the process take too much memory, it also gives up what is here for later only,
 * used or not. What a client or a backend refers to stays: giving it up would free nothing. */
#define LOG_MODULE "pg_doorman::pool::prepared_statement_cache"
#include "actors/statement_internal.h"

#include "runtime/log.h"
#include "runtime/worker.h"

#include <inttypes.h>

/* How many the hand may spare before it takes the next one, used or not. */
enum { SPARED_MAX = 64 };
enum { SUMMARY_US = 10000000 };
/* What an admission does for the memory of all, in looks. */
enum { ADMISSION_LOOKS = 64 };

void statement_cache_init(struct statement_cache *cache)
{
    *cache = (struct statement_cache){.lock = PTHREAD_MUTEX_INITIALIZER};
}

static uint64_t cost(const struct statement *s)
{
    return 128 + s->name_len + s->text->tail_len;
}

/* Behind the hand: the last one that it comes to. */
static void ring_add(struct statement_cache *cache, struct statement *s)
{
    if (cache->hand == NULL) {
        s->next = s->previous = cache->hand = s;
    } else {
        s->next = cache->hand;
        s->previous = cache->hand->previous;
        s->previous->next = s;
        s->next->previous = s;
    }
    cache->count++;
    cache->bytes += cost(s);
    /* The use for which it was admitted does not count: one-off texts are not spared. */
    s->used_at_hand = MAX(atomic_load_explicit(&s->used, memory_order_relaxed), UINT64_C(1));
    atomic_store_explicit(&s->cached, true, memory_order_relaxed);
}

static void ring_remove(struct statement_cache *cache, struct statement *s)
{
    if (cache->hand == s)
        cache->hand = s->next == s ? NULL : s->next;
    s->previous->next = s->next;
    s->next->previous = s->previous;
    s->next = s->previous = NULL;
    cache->count--;
    cache->bytes -= cost(s);
    atomic_store_explicit(&s->cached, false, memory_order_relaxed);
}

static struct statement *victim(struct statement_cache *cache)
{
    for (uint32_t spared = 0; spared < SPARED_MAX; spared++) {
        struct statement *s = cache->hand;
        uint64_t used = atomic_load_explicit(&s->used, memory_order_relaxed);

        if (used == s->used_at_hand)
            break;
        if (used > 0) /* else it has only just come */
            s->used_at_hand = used;
        cache->hand = s->next;
    }
    return cache->hand;
}

/* What is over the bound, out of the ring: a chain by `next`, each with the cache's reference. */
static struct statement *evict(struct statement_cache *cache, uint32_t bound)
{
    struct statement *out = NULL;

    while (cache->count > bound) {
        struct statement *s = victim(cache);

        ring_remove(cache, s);
        s->next = out;
        out = s;
    }
    return out;
}

/* Out of the ring: what frees memory, as much as is too much; the chain with `out` behind it. */
static struct statement *evict_unreferenced(struct statement_cache *cache, uint32_t looks,
                                            struct statement *out)
{
    uint64_t bytes = atomic_load_explicit(&statement_text_bytes, memory_order_relaxed);
    uint64_t mark = atomic_load_explicit(&statement_bytes_limit, memory_order_relaxed) / 2;

    looks = MIN(looks, cache->count);
    for (; looks > 0 && bytes > mark; looks--) {
        struct statement *s = cache->hand;

        if (atomic_load_explicit(&s->references, memory_order_relaxed) > 1) {
            cache->hand = s->next;
            continue;
        }
        /* Under other settings, or in other pools, others may have the same text. */
        if (atomic_load_explicit(&s->text->references, memory_order_relaxed) == 1)
            bytes -= MIN(bytes, (uint64_t)s->text->tail_len);
        ring_remove(cache, s);
        s->next = out;
        out = s;
    }
    return out;
}

const char *statement_kind_name(const struct statement *s)
{
    switch (atomic_load_explicit(&s->kinds, memory_order_relaxed)) {
    case STATEMENT_NAMED | STATEMENT_ANONYMOUS: return "mixed";
    case STATEMENT_ANONYMOUS: return "anonymous";
    default: return "named";
    }
}

/* Each in the debug log; the ordinary one learns now and then that the cache is too small. */
static void tell(struct statement_cache *cache, const struct statement *s, uint32_t bound)
{
    static _Atomic uint64_t told_us;
    uint64_t now_us = clock_us();
    uint64_t before_us = atomic_load_explicit(&told_us, memory_order_relaxed);
    uint64_t evictions = atomic_fetch_add_explicit(&cache->evictions, 1, memory_order_relaxed) + 1;

    log_debug("Pool cache eviction: hash=0x%" PRIx64 ", kind=%s, name=%s, query=\"%.80s\", "
              "size=%u/%u",
              s->text->hash, statement_kind_name(s), s->name, (const char *)s->text->tail, bound,
              bound);
    if (now_us - before_us < SUMMARY_US && before_us != 0)
        return;
    if (!atomic_compare_exchange_strong(&told_us, &before_us, now_us))
        return;
    if (statement_pressed())
        log_info("Pool cache eviction: %" PRIu64 " statements since the start, the texts of all "
                 "take more than half of max_memory_usage",
                 evictions);
    else
        log_info("Pool cache eviction: %" PRIu64 " statements since the start, size=%u/%u "
                 "(prepared_statements_cache_size)",
                 evictions, bound, bound);
}

/* bound 0: nobody needs to be told. */
static void give_up(struct statement_cache *cache, struct statement *out, uint32_t bound)
{
    while (out != NULL) {
        struct statement *next = out->next;

        out->next = NULL;
        if (bound > 0)
            tell(cache, out, bound);
        statement_unref(out);
        out = next;
    }
}

void statement_cache_admit(struct statement *s)
{
    struct statement_cache *cache = s->cache;
    struct statement *out = NULL;

    pthread_mutex_lock(&cache->lock);
    uint32_t bound = MAX(cache->bound, 1u);
    if (!atomic_load_explicit(&s->cached, memory_order_relaxed) &&
        !atomic_load_explicit(&s->retired, memory_order_relaxed)) {
        ring_add(cache, statement_ref(s));
        out = evict(cache, bound);
        if (UNLIKELY(statement_pressed()))
            out = evict_unreferenced(cache, ADMISSION_LOOKS, out);
    }
    pthread_mutex_unlock(&cache->lock);
    give_up(cache, out, bound);
}

uint32_t statement_cache_relieve(struct statement_cache *cache, uint32_t looks)
{
    if (!statement_pressed())
        return 0;
    pthread_mutex_lock(&cache->lock);
    uint32_t before = cache->count;
    uint32_t bound = MAX(cache->bound, 1u);
    struct statement *out = evict_unreferenced(cache, looks, NULL);
    uint32_t given_up = before - cache->count;
    pthread_mutex_unlock(&cache->lock);
    give_up(cache, out, bound);
    return given_up;
}

void statement_cache_dismiss(struct statement *s)
{
    struct statement_cache *cache = s->cache;

    pthread_mutex_lock(&cache->lock);
    bool cached = atomic_load_explicit(&s->cached, memory_order_relaxed);
    if (cached)
        ring_remove(cache, s);
    pthread_mutex_unlock(&cache->lock);
    if (cached)
        statement_unref(s);
}

void statement_cache_limit(struct statement_cache *cache, uint64_t bound)
{
    uint32_t limit = (uint32_t)MIN(MAX(bound, UINT64_C(1)), (uint64_t)UINT32_MAX);

    pthread_mutex_lock(&cache->lock);
    cache->bound = limit;
    struct statement *out = evict(cache, limit);
    pthread_mutex_unlock(&cache->lock);
    give_up(cache, out, limit);
}

void statement_cache_clear(struct statement_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    struct statement *out = evict(cache, 0);
    pthread_mutex_unlock(&cache->lock);
    give_up(cache, out, 0);
}

void statement_cache_each(struct statement_cache *cache,
                          void (*visit)(void *context, const struct statement *s), void *context)
{
    pthread_mutex_lock(&cache->lock);
    struct statement *s = cache->hand;
    for (uint32_t i = 0; i < cache->count; i++, s = s->next)
        visit(context, s);
    pthread_mutex_unlock(&cache->lock);
}

void statement_cache_totals(struct statement_cache *cache, uint64_t *count, uint64_t *bytes)
{
    pthread_mutex_lock(&cache->lock);
    *count = cache->count;
    *bytes = cache->bytes;
    pthread_mutex_unlock(&cache->lock);
}

void statement_cache_check(struct statement_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    uint64_t bytes = 0;
    struct statement *s = cache->hand;
    for (uint32_t i = 0; i < cache->count; i++, s = s->next) {
        INVARIANT(s->cache == cache && atomic_load(&s->cached));
        INVARIANT(s->next->previous == s && s->previous->next == s);
        bytes += cost(s);
    }
    INVARIANT(s == cache->hand && bytes == cache->bytes);
    INVARIANT(cache->count <= MAX(cache->bound, 1u));
    pthread_mutex_unlock(&cache->lock);
}
