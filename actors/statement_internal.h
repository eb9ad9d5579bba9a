/* statement_internal.h: what the files about statements share, and what their tests look at. */
#ifndef ACTORS_STATEMENT_INTERNAL_H
#define ACTORS_STATEMENT_INTERNAL_H

#include "actors/statement.h"

#include <pthread.h>
#include <stdalign.h>

/* SipHash with one round per word and three at the end. */
uint64_t statement_siphash(const uint64_t key[2], struct bytes text);
/* The same with the key of this process, which is drawn on first use. Both the texts and the names
 * come from clients: whoever could predict this could turn any of the tables into a list. */
uint64_t statement_hash(struct bytes text);
/* Bits of the hash that survive. All of them; tests make equal hashes by clearing some, before
 * there is a second thread. */
extern uint64_t statement_hash_bits;

/* --- statement_table.c: items by their hash; the callers compare, lock and count references --- */

#define SHARD_BITS 6
#define SHARDS     (1 << SHARD_BITS)

struct shard_slot {
    uint64_t hash;
    void *item; /* NULL: free */
};
struct shard {
    alignas(CACHE_LINE) pthread_mutex_t lock;
    struct shard_slot *slots;
    uint32_t size; /* 0 or a power of two */
    uint32_t count;
};
struct statement_table {
    struct shard shards[SHARDS];
};
#define STATEMENT_TABLE                                                        \
    {                                                                          \
        .shards = { [0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER} } \
    }

static inline struct shard *shard_of(struct statement_table *table, uint64_t hash)
{
    return &table->shards[hash >> (64 - SHARD_BITS)];
}
/* With the shard's lock. False: no memory. */
MUST_CHECK bool shard_insert(struct shard *shard, uint64_t hash, void *item);
void shard_remove(struct shard *shard, uint64_t hash, const void *item); /* it must be there */
/* With each shard's lock in turn; visit must not change the table. */
void table_each(struct statement_table *table, void (*visit)(void *context, void *item),
                void *context);
void table_check(struct statement_table *table);

/* Gives up a reference that is not the last one; false: it may be the last. */
static inline bool reference_drop_shared(_Atomic uint32_t *references)
{
    uint32_t n = atomic_load_explicit(references, memory_order_relaxed);

    INVARIANT(n != 0);
    while (n > 1) {
        if (atomic_compare_exchange_weak_explicit(references, &n, n - 1, memory_order_release,
                                                  memory_order_relaxed))
            return true;
    }
    return false;
}

/* --- statement_text.c --- */

/* A reference for the caller; NULL without memory, or if it is a new one and there would be more
 * than so many bytes. */
struct statement_text *statement_text_get(uint64_t hash, struct bytes tail, uint64_t bytes_limit);
void statement_text_unref(struct statement_text *t);

/* --- statement_cache.c --- */

/* Puts it into its cache and what this displaces out of it. */
void statement_cache_admit(struct statement *s);
void statement_cache_dismiss(struct statement *s);

/* Walk the whole structure and end the process when it contradicts itself. */
void statement_text_check(void);
void statement_registry_check(void);
void statement_cache_check(struct statement_cache *cache);
void statement_set_check(const struct statement_set *set);
void statement_map_check(const struct statement_map *map);

#endif
