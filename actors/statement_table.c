/* statement_table.c: open addressing with linear probing, in shards with a lock each. The upper
 * bits of a hash choose the shard, the lower ones the slot; the hash lies beside the pointer, so
 * that passing by costs no visit. */
#include "actors/statement_internal.h"

#include "runtime/world.h"

#include <stdlib.h>

#define SIZE_MIN 16u

static uint32_t slot_home(uint64_t hash, uint32_t size)
{
    return (uint32_t)hash & (size - 1);
}

static void slots_place(struct shard_slot *slots, uint32_t size, struct shard_slot new)
{
    uint32_t i = slot_home(new.hash, size);

    while (slots[i].item != NULL)
        i = (i + 1) & (size - 1);
    slots[i] = new;
}

static bool shard_resize(struct shard *shard, uint32_t size)
{
    struct shard_slot *slots = memory_ask(size * sizeof *slots);

    if (slots == NULL)
        return false;
    memset(slots, 0, size * sizeof *slots);
    for (uint32_t i = 0; i < shard->size; i++) {
        if (shard->slots[i].item != NULL)
            slots_place(slots, size, shard->slots[i]);
    }
    free(shard->slots);
    shard->slots = slots;
    shard->size = size;
    return true;
}

bool shard_insert(struct shard *shard, uint64_t hash, void *item)
{
    /* Never more than three quarters full. */
    if (shard->count >= shard->size - shard->size / 4) {
        INVARIANT(shard->size <= UINT32_MAX / 4);
        if (!shard_resize(shard, MAX(2 * shard->size, SIZE_MIN)))
            return false;
    }
    slots_place(shard->slots, shard->size, (struct shard_slot){hash, item});
    shard->count++;
    return true;
}

void shard_remove(struct shard *shard, uint64_t hash, const void *item)
{
    struct shard_slot *slots = shard->slots;
    uint32_t mask = shard->size - 1;
    uint32_t hole = slot_home(hash, shard->size);

    while (slots[hole].item != item) {
        INVARIANT(slots[hole].item != NULL);
        hole = (hole + 1) & mask;
    }
    /* Move up whoever probed past the hole, so that no search ends there too early. */
    for (uint32_t i = (hole + 1) & mask; slots[i].item != NULL; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            slots[hole] = slots[i];
            hole = i;
        }
    }
    slots[hole] = (struct shard_slot){0};
    shard->count--;
    /* A burst of one-off texts should not cost memory for ever. Failing to shrink is harmless. */
    if (shard->size > SIZE_MIN && shard->count < shard->size / 8)
        (void)shard_resize(shard, shard->size / 2);
}

void table_each(struct statement_table *table, void (*visit)(void *context, void *item),
                void *context)
{
    for (struct shard *shard = table->shards; shard < table->shards + SHARDS; shard++) {
        pthread_mutex_lock(&shard->lock);
        for (uint32_t i = 0; i < shard->size; i++) {
            if (shard->slots[i].item != NULL)
                visit(context, shard->slots[i].item);
        }
        pthread_mutex_unlock(&shard->lock);
    }
}

static void shard_check(struct statement_table *table, const struct shard *shard)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->size; i++) {
        const struct shard_slot *slot = &shard->slots[i];

        if (slot->item == NULL)
            continue;
        INVARIANT(shard_of(table, slot->hash) == shard);
        for (uint32_t at = slot_home(slot->hash, shard->size); at != i;
             at = (at + 1) & (shard->size - 1))
            INVARIANT(shard->slots[at].item != NULL);
        count++;
    }
    INVARIANT(count == shard->count);
    INVARIANT(shard->size == 0 || count < shard->size);
}

void table_check(struct statement_table *table)
{
    for (struct shard *shard = table->shards; shard < table->shards + SHARDS; shard++) {
        pthread_mutex_lock(&shard->lock);
        shard_check(table, shard);
        pthread_mutex_unlock(&shard->lock);
    }
}
