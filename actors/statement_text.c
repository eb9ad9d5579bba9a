/* statement_text.c: the interner: each text once, found by its hash, told apart by its bytes.
 *
 * A text in a shard always has a reference. The step from one to none, and the step from absent to
 * one, are both taken under the shard's lock; so a lookup cannot revive what a last owner is just
 * about to free. All other steps need no lock.
 *
 * What SHOW INTERNER lists is kept apart from that: a text is listed as named, as anonymous, or as
 * both, from the time it is used as such. An anonymous one that rests is taken off the list, in two
 * steps, so that one which is used between the look and the act stays.
 */
#define LOG_MODULE "pg_doorman::interner"
#include "actors/statement_internal.h"

#include "proto/deallocate.h"
#include "proto/scan.h"
#include "runtime/log.h"
#include "runtime/worker.h"
#include "runtime/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static struct statement_table texts = STATEMENT_TABLE;
alignas(CACHE_LINE) _Atomic uint64_t statement_text_bytes; /* read at each Sync */
_Atomic uint64_t statement_bytes_limit = UINT64_MAX;

static struct bytes tail_of(const struct statement_text *t)
{
    return (struct bytes){t->tail, t->tail_len};
}

/* Finds and references. */
static struct statement_text *take(const struct shard *shard, uint64_t hash, struct bytes tail)
{
    if (shard->size == 0)
        return NULL;
    for (uint32_t i = (uint32_t)hash & (shard->size - 1); shard->slots[i].item != NULL;
         i = (i + 1) & (shard->size - 1)) {
        struct statement_text *t = shard->slots[i].item;

        if (shard->slots[i].hash == hash && bytes_equal(tail_of(t), tail)) {
            atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
            return t;
        }
    }
    return NULL;
}

static uint8_t traits_of(struct bytes query, const struct scan_effect *effect)
{
    char name[DEALLOCATE_NAME + 1];
    uint32_t name_len;
    uint8_t traits = effect->clears & SCAN_PREPARE ? TEXT_CLEARS : 0;

    if (effect->leaves & SCAN_COPIES)
        traits |= TEXT_MAY_COPY;

    if (deallocate_read(query, name, &name_len) == DEALLOCATE_ONE)
        traits |= TEXT_FREES_NAME;
    for (size_t i = 0; i < query.len; i++) {
        if (query.at[i] >= 0x80)
            traits |= TEXT_BEYOND_ASCII;
    }
    return traits;
}

static struct statement_text *text_new(uint64_t hash, struct bytes tail, uint64_t bytes_limit)
{
    struct statement_text *t;

    if (tail.len > UINT32_MAX ||
        atomic_load_explicit(&statement_text_bytes, memory_order_relaxed) + tail.len > bytes_limit)
        return NULL;
    t = memory_ask(sizeof *t + tail.len);
    if (t == NULL)
        return NULL;
    memset(t, 0, sizeof *t);
    atomic_init(&t->references, 1);
    t->hash = hash;
    t->tail_len = (uint32_t)tail.len;
    if (tail.len > 0)
        memcpy(t->tail, tail.at, tail.len);
    t->query_len = (uint32_t)strnlen((const char *)t->tail, tail.len);
    struct scan_effect effect = scan_sql(t->tail, t->query_len);
    t->leaves = effect.leaves;
    t->traits = traits_of((struct bytes){t->tail, t->query_len}, &effect);
    return t;
}

struct statement_text *statement_text_get(uint64_t hash, struct bytes tail, uint64_t bytes_limit)
{
    struct shard *shard = shard_of(&texts, hash);
    struct statement_text *found;
    struct statement_text *made;

    pthread_mutex_lock(&shard->lock);
    found = take(shard, hash, tail);
    pthread_mutex_unlock(&shard->lock);
    if (found != NULL)
        return found;

    /* The text may be megabytes: copy it outside the lock, then see whether somebody was faster. */
    made = text_new(hash, tail, bytes_limit);
    if (made == NULL)
        return NULL;
    pthread_mutex_lock(&shard->lock);
    found = take(shard, hash, tail);
    if (found == NULL && shard_insert(shard, hash, made)) {
        atomic_fetch_add_explicit(&statement_text_bytes, tail.len, memory_order_relaxed);
        found = made;
        made = NULL;
    }
    pthread_mutex_unlock(&shard->lock);
    free(made);
    return found;
}

void statement_text_unref(struct statement_text *t)
{
    struct shard *shard = shard_of(&texts, t->hash);
    bool last;

    if (reference_drop_shared(&t->references))
        return;
    pthread_mutex_lock(&shard->lock);
    /* A lookup may have come in between. Acquire: what the other owners did is over. */
    last = atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) == 1;
    if (last)
        shard_remove(shard, t->hash, t);
    pthread_mutex_unlock(&shard->lock);
    if (!last)
        return;
    atomic_fetch_sub_explicit(&statement_text_bytes, t->tail_len, memory_order_relaxed);
    if (t->seen_us[STATEMENT_IS_NAMED] != 0)
        atomic_fetch_add_explicit(&statement_events.named_evictions, 1, memory_order_relaxed);
    free(t);
}

/* --- what SHOW INTERNER lists --- */

struct sweep {
    uint64_t now_us;
    uint64_t ttl_us;
    uint64_t marked;
    uint64_t evicted;
    uint64_t bytes;
};

static void sweep_one(void *context, void *item)
{
    struct sweep *sweep = context;
    struct statement_text *t = item;
    uint64_t seen_us = atomic_load_explicit(&t->seen_us[STATEMENT_IS_ANONYMOUS],
                                            memory_order_relaxed);

    if (seen_us == 0)
        return;
    if (sweep->ttl_us == 0 || sweep->now_us <= seen_us ||
        sweep->now_us - seen_us <= sweep->ttl_us) {
        t->marked_us = 0;
        return;
    }
    if (t->marked_us != seen_us) {
        t->marked_us = seen_us;
        sweep->marked++;
        return;
    }
    /* Only if it was not used in this very moment. */
    if (!atomic_compare_exchange_strong(&t->seen_us[STATEMENT_IS_ANONYMOUS], &seen_us, 0))
        return;
    t->marked_us = 0;
    sweep->evicted++;
    sweep->bytes += t->query_len;
    log_trace("query_interner evict anon: hash=0x%" PRIx64 ", bytes=%u, idle_ms=%" PRIu64
              ", query=\"%.80s\"",
              t->hash, t->query_len, (sweep->now_us - seen_us) / 1000, (const char *)t->tail);
}

void statement_text_sweep(uint64_t now_us, uint64_t ttl_us)
{
    struct sweep sweep = {.now_us = now_us, .ttl_us = ttl_us};

    table_each(&texts, sweep_one, &sweep);
    atomic_fetch_add_explicit(&statement_events.anonymous_evictions, sweep.evicted,
                              memory_order_relaxed);
    if (sweep.evicted > 0)
        log_debug("query_interner GC: anon marked=%" PRIu64 ", evicted=%" PRIu64 ", bytes=%" PRIu64
                  "; ttl_ms=%" PRIu64 "; elapsed=%" PRIu64 "ms",
                  sweep.marked, sweep.evicted, sweep.bytes, ttl_us / 1000,
                  (clock_us() - now_us) / 1000);
}

static void unlist_one(void *context, void *item)
{
    struct statement_text *t = item;

    (void)context;
    for (int kind = 0; kind < STATEMENT_IS_COUNT; kind++)
        atomic_store_explicit(&t->seen_us[kind], 0, memory_order_relaxed);
}

void statement_text_reset(void)
{
    table_each(&texts, unlist_one, NULL);
}

struct each {
    void (*visit)(void *context, const struct statement_text *text);
    void *context;
};

static void visit_one(void *context, void *item)
{
    struct each *each = context;

    each->visit(each->context, item);
}

void statement_text_each(void (*visit)(void *context, const struct statement_text *text),
                         void *context)
{
    struct each each = {visit, context};

    table_each(&texts, visit_one, &each);
}

void statement_totals(uint64_t *count, uint64_t *bytes)
{
    *count = 0;
    *bytes = atomic_load_explicit(&statement_text_bytes, memory_order_relaxed);
    for (struct shard *shard = texts.shards; shard < texts.shards + SHARDS; shard++) {
        pthread_mutex_lock(&shard->lock);
        *count += shard->count;
        pthread_mutex_unlock(&shard->lock);
    }
}

static void check_one(void *context, void *item)
{
    const struct statement_text *t = item;

    INVARIANT(atomic_load(&t->references) > 0);
    *(uint64_t *)context += t->tail_len;
}

void statement_text_check(void)
{
    uint64_t bytes = 0;

    table_check(&texts);
    table_each(&texts, check_one, &bytes);
    INVARIANT(bytes == atomic_load(&statement_text_bytes));
}
