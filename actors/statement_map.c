/* statement_map.c: a client's names, by open addressing.
 *
 * Most drivers number their statements (S_1, s2), so a name of up to eight bytes lives in the entry
 * itself. Names are bytes, not text: any but NUL may occur, and the empty one is a name too.
 */
#include "actors/statement_internal.h"

#include <stdlib.h>

#define SIZE_MIN 4u

struct statement_map_entry {
    struct statement *statement; /* NULL: free */
    union {
        uint8_t near[8];
        uint8_t *far;
    } name;
    uint32_t name_len;
    uint32_t hash;
};

static bool name_is_far(const struct statement_map_entry *entry)
{
    return entry->name_len > sizeof entry->name.near;
}

static struct bytes name_of(const struct statement_map_entry *entry)
{
    return (struct bytes){name_is_far(entry) ? entry->name.far : entry->name.near, entry->name_len};
}

static void name_store(struct statement_map_entry *entry, struct bytes name)
{
    uint8_t *to = entry->name.near;

    INVARIANT(name.len <= UINT32_MAX);
    entry->name_len = (uint32_t)name.len;
    if (name_is_far(entry)) {
        to = malloc(name.len);
        INVARIANT(to != NULL);
        entry->name.far = to;
    }
    if (name.len > 0)
        memcpy(to, name.at, name.len);
}

static void entry_release(struct statement_map_entry *entry)
{
    if (name_is_far(entry))
        free(entry->name.far);
    statement_unref(entry->statement);
}

static struct statement_map_entry *map_find(const struct statement_map *map, uint32_t hash,
                                            struct bytes name)
{
    if (map->size_ == 0)
        return NULL;
    for (uint32_t i = hash & (map->size_ - 1); map->entries_[i].statement != NULL;
         i = (i + 1) & (map->size_ - 1)) {
        struct statement_map_entry *entry = &map->entries_[i];

        if (entry->hash == hash && bytes_equal(name_of(entry), name))
            return entry;
    }
    return NULL;
}

static struct statement_map_entry *map_vacancy(const struct statement_map *map, uint32_t hash)
{
    uint32_t i = hash & (map->size_ - 1);

    while (map->entries_[i].statement != NULL)
        i = (i + 1) & (map->size_ - 1);
    return &map->entries_[i];
}

static void map_resize(struct statement_map *map, uint32_t size)
{
    struct statement_map before = *map;

    map->entries_ = calloc(size, sizeof *map->entries_);
    INVARIANT(map->entries_ != NULL);
    map->size_ = size;
    for (uint32_t i = 0; i < before.size_; i++) {
        if (before.entries_[i].statement != NULL)
            *map_vacancy(map, before.entries_[i].hash) = before.entries_[i];
    }
    free(before.entries_);
    DEBUG_CHECK((statement_map_check(map), true));
}

struct statement *statement_map_get(const struct statement_map *map, struct bytes name)
{
    struct statement_map_entry *entry;

    if (map->count == 0)
        return NULL;
    entry = map_find(map, (uint32_t)statement_hash(name), name);
    return entry == NULL ? NULL : entry->statement;
}

void statement_map_put(struct statement_map *map, struct bytes name, struct statement *s)
{
    uint32_t hash = (uint32_t)statement_hash(name);
    struct statement_map_entry *entry = map_find(map, hash, name);
    struct statement *before;

    if (entry != NULL) {
        /* In this order, since it may be the same statement. */
        before = entry->statement;
        entry->statement = statement_ref(s);
        statement_unref(before);
        return;
    }
    if (map->count >= map->size_ - map->size_ / 4) {
        INVARIANT(map->size_ <= UINT32_MAX / 4);
        map_resize(map, MAX(2 * map->size_, SIZE_MIN));
    }
    entry = map_vacancy(map, hash);
    name_store(entry, name);
    entry->hash = hash;
    entry->statement = statement_ref(s);
    map->count++;
}

/* Moves up whoever probed past the hole, so that no search ends there too early. */
static void map_close_hole(struct statement_map *map, uint32_t hole)
{
    struct statement_map_entry *entries = map->entries_;
    uint32_t mask = map->size_ - 1;

    for (uint32_t i = (hole + 1) & mask; entries[i].statement != NULL; i = (i + 1) & mask) {
        uint32_t home = entries[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            entries[hole] = entries[i];
            hole = i;
        }
    }
    entries[hole] = (struct statement_map_entry){0};
}

bool statement_map_remove(struct statement_map *map, struct bytes name)
{
    struct statement_map_entry *entry;

    if (map->count == 0)
        return false;
    entry = map_find(map, (uint32_t)statement_hash(name), name);
    if (entry == NULL)
        return false;
    entry_release(entry);
    map_close_hole(map, (uint32_t)(entry - map->entries_));
    map->count--;
    if (map->size_ > SIZE_MIN && map->count < map->size_ / 8)
        map_resize(map, map->size_ / 2);
    return true;
}

void statement_map_clear(struct statement_map *map)
{
    for (uint32_t i = 0; i < map->size_; i++) {
        if (map->entries_[i].statement != NULL)
            entry_release(&map->entries_[i]);
    }
    free(map->entries_);
    *map = (struct statement_map){0};
}

void statement_map_each(const struct statement_map *map,
                        void (*visit)(void *context, struct bytes name, struct statement *s),
                        void *context)
{
    for (uint32_t i = 0; i < map->size_; i++) {
        if (map->entries_[i].statement != NULL)
            visit(context, name_of(&map->entries_[i]), map->entries_[i].statement);
    }
}

void statement_map_check(const struct statement_map *map)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < map->size_; i++) {
        const struct statement_map_entry *entry = &map->entries_[i];

        if (entry->statement == NULL)
            continue;
        INVARIANT(map_find(map, entry->hash, name_of(entry)) == entry);
        count++;
    }
    INVARIANT(count == map->count);
    INVARIANT(map->size_ == 0 || count < map->size_);
}
