/* statement.c: the registry: each text once, found by its hash, told apart by its bytes.
 *
 * A statement in a shard always has a reference. The step from one to none, and the step from
 * absent to one, are both taken under the shard's lock; so a lookup cannot revive what a last
 * owner is just about to free. All other steps need no lock.
 */
#include "actors/statement_internal.h"
#include "proto/scan.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#define SHARD_BITS 6
#define SHARDS     (1 << SHARD_BITS)
#define SHARD_MIN  16u

/* The hash is kept beside the pointer, so that passing by costs no visit to the statement. */
struct shard_slot {
    uint64_t hash;
    struct statement *statement;
};

struct shard {
    alignas(CACHE_LINE) pthread_mutex_t lock;
    struct shard_slot *slots; /* open addressing, linear; never more than three quarters full */
    uint32_t size;            /* 0 or a power of two */
    uint32_t count;
    uint64_t bytes;
};

static struct shard shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};
static _Atomic uint64_t next_number;

/* The upper bits choose the shard, the lower ones the slot. */
static struct shard *shard_of(uint64_t hash)
{
    return &shards[hash >> (64 - SHARD_BITS)];
}

static uint32_t slot_home(uint64_t hash, uint32_t size)
{
    return (uint32_t)hash & (size - 1);
}

static struct bytes tail_of(const struct statement *s)
{
    return (struct bytes){s->tail, s->tail_len};
}

static void slots_place(struct shard_slot *slots, uint32_t size, struct shard_slot new)
{
    uint32_t i = slot_home(new.hash, size);

    while (slots[i].statement != NULL)
        i = (i + 1) & (size - 1);
    slots[i] = new;
}

static bool shard_resize(struct shard *shard, uint32_t size)
{
    struct shard_slot *slots = calloc(size, sizeof *slots);

    if (slots == NULL)
        return false;
    for (uint32_t i = 0; i < shard->size; i++) {
        if (shard->slots[i].statement != NULL)
            slots_place(slots, size, shard->slots[i]);
    }
    free(shard->slots);
    shard->slots = slots;
    shard->size = size;
    return true;
}

/* Finds and references. */
static struct statement *shard_take(const struct shard *shard, uint64_t hash, struct bytes tail)
{
    if (shard->size == 0)
        return NULL;
    for (uint32_t i = slot_home(hash, shard->size); shard->slots[i].statement != NULL;
         i = (i + 1) & (shard->size - 1)) {
        struct shard_slot *slot = &shard->slots[i];

        if (slot->hash == hash && bytes_equal(tail_of(slot->statement), tail))
            return statement_ref(slot->statement);
    }
    return NULL;
}

static bool shard_insert(struct shard *shard, struct statement *s)
{
    uint32_t limit = shard->size - shard->size / 4;
    int len;

    if (shard->count >= limit) {
        INVARIANT(shard->size <= UINT32_MAX / 4);
        if (!shard_resize(shard, MAX(2 * shard->size, SHARD_MIN)))
            return false;
    }
    s->number = atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed);
    len = snprintf(s->name, sizeof s->name, "DOORMAN_%" PRIu64, s->number);
    INVARIANT(len > 0 && (size_t)len < sizeof s->name);
    s->name_len = (uint32_t)len;

    slots_place(shard->slots, shard->size, (struct shard_slot){s->hash, s});
    shard->count++;
    shard->bytes += s->tail_len;
    return true;
}

static void shard_remove(struct shard *shard, const struct statement *s)
{
    struct shard_slot *slots = shard->slots;
    uint32_t mask = shard->size - 1;
    uint32_t hole = slot_home(s->hash, shard->size);

    while (slots[hole].statement != s) {
        INVARIANT(slots[hole].statement != NULL);
        hole = (hole + 1) & mask;
    }
    /* Move up whoever probed past the hole, so that no search ends there too early. */
    for (uint32_t i = (hole + 1) & mask; slots[i].statement != NULL; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            slots[hole] = slots[i];
            hole = i;
        }
    }
    slots[hole] = (struct shard_slot){0};
    shard->count--;
    shard->bytes -= s->tail_len;
    /* A burst of one-off texts should not cost memory for ever. Failing to shrink is harmless. */
    if (shard->size > SHARD_MIN && shard->count < shard->size / 8)
        (void)shard_resize(shard, shard->size / 2);
}

static struct statement *statement_new(uint64_t hash, struct bytes tail)
{
    struct statement *s;

    if (tail.len > UINT32_MAX)
        return NULL;
    s = malloc(sizeof *s + tail.len);
    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof *s);
    atomic_init(&s->references, 1);
    atomic_init(&s->used, 0);
    s->hash = hash;
    s->tail_len = (uint32_t)tail.len;
    if (tail.len > 0)
        memcpy(s->tail, tail.at, tail.len);
    s->leaves = scan_sql(s->tail, strnlen((const char *)s->tail, tail.len)).leaves;
    return s;
}

struct statement *statement_intern(const uint8_t *tail, size_t len)
{
    struct bytes text = {tail, len};
    uint64_t hash = statement_hash(text);
    struct shard *shard = shard_of(hash);
    struct statement *found;
    struct statement *made;

    pthread_mutex_lock(&shard->lock);
    found = shard_take(shard, hash, text);
    pthread_mutex_unlock(&shard->lock);
    if (found != NULL)
        return found;

    /* The text may be megabytes: copy it outside the lock, then see whether somebody was faster. */
    made = statement_new(hash, text);
    if (made == NULL)
        return NULL;
    pthread_mutex_lock(&shard->lock);
    found = shard_take(shard, hash, text);
    if (found == NULL && shard_insert(shard, made)) {
        found = made;
        made = NULL;
    }
    pthread_mutex_unlock(&shard->lock);
    free(made);
    return found;
}

struct statement *statement_ref(struct statement *s)
{
    uint32_t before = atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);

    INVARIANT(before != 0 && before != UINT32_MAX);
    return s;
}

/* Gives up a reference that is not the last one. */
static bool unref_shared(struct statement *s)
{
    uint32_t n = atomic_load_explicit(&s->references, memory_order_relaxed);

    INVARIANT(n != 0);
    while (n > 1) {
        if (atomic_compare_exchange_weak_explicit(&s->references, &n, n - 1, memory_order_release,
                                                  memory_order_relaxed))
            return true;
    }
    return false;
}

void statement_unref(struct statement *s)
{
    struct shard *shard;
    bool last;

    if (unref_shared(s))
        return;
    shard = shard_of(s->hash);
    pthread_mutex_lock(&shard->lock);
    /* A lookup may have come in between. Acquire: what the other owners did is over. */
    last = atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) == 1;
    if (last)
        shard_remove(shard, s);
    pthread_mutex_unlock(&shard->lock);
    if (last)
        free(s);
}

void statement_totals(uint64_t *count, uint64_t *bytes)
{
    *count = 0;
    *bytes = 0;
    for (struct shard *shard = shards; shard < shards + SHARDS; shard++) {
        pthread_mutex_lock(&shard->lock);
        *count += shard->count;
        *bytes += shard->bytes;
        pthread_mutex_unlock(&shard->lock);
    }
}

void statement_each(void (*visit)(void *context, const struct statement *s), void *context)
{
    for (struct shard *shard = shards; shard < shards + SHARDS; shard++) {
        pthread_mutex_lock(&shard->lock);
        for (uint32_t i = 0; i < shard->size; i++) {
            if (shard->slots[i].statement != NULL)
                visit(context, shard->slots[i].statement);
        }
        pthread_mutex_unlock(&shard->lock);
    }
}

static void shard_check(const struct shard *shard)
{
    uint32_t count = 0;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < shard->size; i++) {
        const struct shard_slot *slot = &shard->slots[i];

        if (slot->statement == NULL)
            continue;
        INVARIANT(slot->hash == slot->statement->hash && shard_of(slot->hash) == shard);
        INVARIANT(atomic_load(&slot->statement->references) > 0);
        for (uint32_t at = slot_home(slot->hash, shard->size); at != i;
             at = (at + 1) & (shard->size - 1))
            INVARIANT(shard->slots[at].statement != NULL);
        count++;
        bytes += slot->statement->tail_len;
    }
    INVARIANT(count == shard->count && bytes == shard->bytes);
    INVARIANT(shard->size == 0 || count < shard->size);
}

void statement_registry_check(void)
{
    for (struct shard *shard = shards; shard < shards + SHARDS; shard++) {
        pthread_mutex_lock(&shard->lock);
        shard_check(shard);
        pthread_mutex_unlock(&shard->lock);
    }
}
