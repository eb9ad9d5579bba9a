/* statement.c: the statements of all pools, found by text, pool and settings.
 *
 * References as for texts (statement_text.c): first and last are given and taken under the lock of
 * the shard. A statement that its cache has dropped is still found here as long as a client or a
 * backend refers to it, so the same text does not come to a second name beside it.
 */
#include "actors/statement_internal.h"

#include "runtime/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct statement_table statements = STATEMENT_TABLE;
enum { NEXT_NUMBER = -1 };
/* How far to look for room when a text is refused. */
enum { RELIEF_LOOKS = 512 };
static _Atomic uint64_t next_number;
struct statement_events statement_events;

/* The cache's address tells pools apart; it lives for ever. */
static uint64_t key_hash(const struct statement_cache *cache, uint64_t digest, uint64_t text_hash)
{
    uint64_t salt = (uint64_t)(uintptr_t)cache + digest * 0x9e3779b97f4a7c15;

    salt = (salt ^ salt >> 31) * 0xd6e8feb86659fd93;
    return (text_hash ^ salt ^ salt >> 32) & statement_hash_bits;
}

struct statement_key statement_key_of(struct statement_cache *cache, uint64_t digest,
                                      struct bytes tail)
{
    uint64_t text_hash = statement_hash(tail);

    return (struct statement_key){.cache = cache,
                                  .digest = digest,
                                  .tail = tail,
                                  .text_hash = text_hash,
                                  .hash = key_hash(cache, digest, text_hash)};
}

/* Finds and references. */
static struct statement *take(const struct shard *shard, const struct statement_key *key)
{
    if (shard->size == 0)
        return NULL;
    for (uint32_t i = (uint32_t)key->hash & (shard->size - 1); shard->slots[i].item != NULL;
         i = (i + 1) & (shard->size - 1)) {
        if (shard->slots[i].hash == key->hash && statement_is(shard->slots[i].item, key))
            return statement_ref(shard->slots[i].item);
    }
    return NULL;
}

static uint64_t bytes_limit_for(const struct statement_key *key, uint64_t number)
{
    uint64_t limit = atomic_load_explicit(&statement_bytes_limit, memory_order_relaxed);

    if (number != (uint64_t)NEXT_NUMBER)
        return UINT64_MAX;
    return key->may_exceed && limit < UINT64_MAX / 2 ? 2 * limit : limit;
}

static struct statement *statement_new(const struct statement_key *key, uint64_t number)
{
    struct statement_text *text = statement_text_get(key->text_hash, key->tail,
                                                     bytes_limit_for(key, number));
    struct statement *s = text == NULL ? NULL : memory_ask_aligned(CACHE_LINE, sizeof *s);

    if (s == NULL) {
        if (text != NULL)
            statement_text_unref(text);
        return NULL;
    }
    memset(s, 0, sizeof *s);
    atomic_init(&s->references, 1);
    s->hash = key->hash;
    s->cache = key->cache;
    s->digest = key->digest;
    s->text = text;
    s->leaves = text->leaves;
    s->traits = text->traits;
    s->number = number;
    if (number == (uint64_t)NEXT_NUMBER)
        s->number = atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed);
    int len = snprintf(s->name, sizeof s->name, "DOORMAN_%" PRIu64, s->number);
    INVARIANT(len > 0 && (size_t)len < sizeof s->name);
    s->name_len = (uint32_t)len;
    return s;
}

static void statement_free(struct statement *s)
{
    statement_text_unref(s->text);
    free(atomic_load_explicit(&s->alias, memory_order_relaxed));
    free(s);
}

static struct statement *find_or_make(const struct statement_key *key, uint64_t number)
{
    struct shard *shard = shard_of(&statements, key->hash);
    struct statement *found;
    struct statement *made;

    pthread_mutex_lock(&shard->lock);
    found = take(shard, key);
    pthread_mutex_unlock(&shard->lock);
    if (found != NULL)
        return found;
    made = statement_new(key, number);
    if (made == NULL)
        return NULL;
    pthread_mutex_lock(&shard->lock);
    found = take(shard, key);
    if (found == NULL && shard_insert(shard, key->hash, made)) {
        made->listed = true;
        found = made;
        made = NULL;
    }
    pthread_mutex_unlock(&shard->lock);
    if (made != NULL)
        statement_free(made);
    return found;
}

struct statement *statement_restore(const struct statement_key *key, uint64_t number)
{
    struct statement *s = find_or_make(key, number);

    if (UNLIKELY(s == NULL) && statement_cache_relieve(key->cache, RELIEF_LOOKS) > 0)
        s = find_or_make(key, number);
    if (s != NULL && !atomic_load_explicit(&s->cached, memory_order_relaxed))
        statement_cache_admit(s);
    return s;
}

struct statement *statement_get(const struct statement_key *key)
{
    return statement_restore(key, (uint64_t)NEXT_NUMBER);
}

void statement_numbers_begin(uint64_t next)
{
    uint64_t now = atomic_load_explicit(&next_number, memory_order_relaxed);

    while (now < next && !atomic_compare_exchange_weak_explicit(
                             &next_number, &now, next, memory_order_relaxed, memory_order_relaxed))
        ;
}

uint64_t statement_numbers_next(void)
{
    return atomic_load_explicit(&next_number, memory_order_relaxed);
}

struct statement *statement_ref(struct statement *s)
{
    uint32_t before = atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);

    INVARIANT(before != 0 && before != UINT32_MAX);
    return s;
}

static void unlist(struct shard *shard, struct statement *s)
{
    if (s->listed)
        shard_remove(shard, s->hash, s);
    s->listed = false;
}

void statement_unref(struct statement *s)
{
    struct shard *shard;
    bool last;

    if (reference_drop_shared(&s->references))
        return;
    shard = shard_of(&statements, s->hash);
    pthread_mutex_lock(&shard->lock);
    /* A lookup may have come in between. Acquire: what the other owners did is over. */
    last = atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) == 1;
    if (last)
        unlist(shard, s);
    pthread_mutex_unlock(&shard->lock);
    if (last)
        statement_free(s);
}

void statement_retire(struct statement *s)
{
    struct shard *shard = shard_of(&statements, s->hash);

    pthread_mutex_lock(&shard->lock);
    unlist(shard, s);
    pthread_mutex_unlock(&shard->lock);
    atomic_store_explicit(&s->retired, true, memory_order_relaxed);
    statement_cache_dismiss(s);
}

void statement_registry_check(void)
{
    table_check(&statements);
    statement_text_check();
}
