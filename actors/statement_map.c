/* statement_map.c: a client's names: an array of entries, and an index into it.
 *
 * Thousands of clients have the same hundred statements each, so an entry is two words. A name of
 * up to eight bytes lies in it; most drivers number their statements (S_1, s2). A longer one mostly
 * is what other clients call the same statement, and then the statement has it (`alias`). Names are
 * bytes, not text: any but NUL may occur.
 *
 * The index is by open addressing; its slots are as narrow as the number of entries allows and hold
 * positions counted from one. It lies behind the entries in the same block.
 */
#include "actors/statement_internal.h"

#include <stdlib.h>

enum { ROOM_MIN = 4 };

/* In the low bits of the pointer to the statement. */
enum {
    NAME_FAR = 1,   /* name.far is our own */
    NAME_ALIAS = 2, /* the statement's alias */
    HIDDEN = 4,
    BITS = 7,
};

struct statement_map_entry {
    uintptr_t word;
    union {
        uint8_t near[8]; /* filled up with NULs */
        struct statement_name *far;
    } name;
};

static struct statement *statement_of(const struct statement_map_entry *entry)
{
    return (struct statement *)(entry->word & ~(uintptr_t)BITS);
}

static struct bytes name_of(const struct statement_map_entry *entry)
{
    const struct statement_name *name;

    if ((entry->word & (NAME_FAR | NAME_ALIAS)) == 0)
        return (struct bytes){entry->name.near, strnlen((const char *)entry->name.near, 8)};
    name = entry->word & NAME_FAR
               ? entry->name.far
               : atomic_load_explicit(&statement_of(entry)->alias, memory_order_acquire);
    return (struct bytes){name->at, name->len};
}

/* --- names --- */

static struct statement_name *name_copy(struct bytes name)
{
    struct statement_name *copy = malloc(sizeof *copy + name.len);

    INVARIANT(copy != NULL && name.len <= UINT32_MAX);
    copy->len = (uint32_t)name.len;
    memcpy(copy->at, name.at, name.len);
    return copy;
}

static bool is_alias(struct statement *s, struct bytes name)
{
    struct statement_name *alias = atomic_load_explicit(&s->alias, memory_order_acquire);

    if (alias == NULL) {
        struct statement_name *mine = name_copy(name);

        if (atomic_compare_exchange_strong(&s->alias, &alias, mine))
            return true;
        free(mine);
    }
    return bytes_equal((struct bytes){alias->at, alias->len}, name);
}

/* Takes a reference on the statement. */
static void entry_fill(struct statement_map_entry *entry, struct bytes name, struct statement *s)
{
    *entry = (struct statement_map_entry){.word = (uintptr_t)statement_ref(s)};
    if (name.len <= sizeof entry->name.near) {
        if (name.len > 0)
            memcpy(entry->name.near, name.at, name.len);
    } else if (is_alias(s, name)) {
        entry->word |= NAME_ALIAS;
    } else {
        entry->word |= NAME_FAR;
        entry->name.far = name_copy(name);
    }
}

static void entry_release(struct statement_map_entry *entry)
{
    if (entry->word & NAME_FAR)
        free(entry->name.far);
    statement_unref(statement_of(entry));
}

/* --- the index --- */

static uint32_t slots_of(uint32_t room)
{
    uint32_t slots = 8;

    while (slots < room + room / 2)
        slots *= 2;
    return slots;
}

static uint32_t slot_width(uint32_t room)
{
    return room < UINT8_MAX ? 1 : room < UINT16_MAX ? 2 : 4;
}

static uint8_t *index_of(const struct statement_map *map)
{
    return (uint8_t *)(map->entries_ + map->room_);
}

static uint32_t slot_get(const struct statement_map *map, uint32_t i)
{
    const uint8_t *index = index_of(map);

    switch (slot_width(map->room_)) {
    case 1: return index[i];
    case 2: return ((const uint16_t *)(const void *)index)[i];
    default: return ((const uint32_t *)(const void *)index)[i];
    }
}

static void slot_set(struct statement_map *map, uint32_t i, uint32_t position)
{
    uint8_t *index = index_of(map);

    switch (slot_width(map->room_)) {
    case 1: index[i] = (uint8_t)position; break;
    case 2: ((uint16_t *)(void *)index)[i] = (uint16_t)position; break;
    default: ((uint32_t *)(void *)index)[i] = position; break;
    }
}

static uint32_t mask_of(const struct statement_map *map)
{
    return slots_of(map->room_) - 1;
}

static uint32_t home_of(const struct statement_map *map, uint32_t position)
{
    return (uint32_t)statement_hash(name_of(&map->entries_[position - 1])) & mask_of(map);
}

static void index_add(struct statement_map *map, uint32_t hash, uint32_t position)
{
    uint32_t mask = mask_of(map);
    uint32_t i = hash & mask;

    while (slot_get(map, i) != 0)
        i = (i + 1) & mask;
    slot_set(map, i, position);
}

static void map_resize(struct statement_map *map, uint32_t room)
{
    size_t entries_bytes = (size_t)room * sizeof *map->entries_;
    size_t index_bytes = (size_t)slots_of(room) * slot_width(room);

    map->entries_ = realloc(map->entries_, entries_bytes + index_bytes);
    INVARIANT(map->entries_ != NULL);
    map->room_ = room;
    memset(index_of(map), 0, index_bytes);
    for (uint32_t i = 0; i < map->count; i++)
        index_add(map, (uint32_t)statement_hash(name_of(&map->entries_[i])), i + 1);
}

/* The slot of the index; its position is 0 when there is none of this name. */
static uint32_t map_find(const struct statement_map *map, uint32_t hash, struct bytes name,
                         uint32_t *position)
{
    uint32_t mask = mask_of(map);
    uint32_t i = hash & mask;

    while ((*position = slot_get(map, i)) != 0 &&
           !bytes_equal(name_of(&map->entries_[*position - 1]), name))
        i = (i + 1) & mask;
    return i;
}

/* --- */

static struct statement_map_entry *map_entry(const struct statement_map *map, struct bytes name)
{
    uint32_t position;

    if (map->count == 0)
        return NULL;
    map_find(map, (uint32_t)statement_hash(name), name, &position);
    return position == 0 ? NULL : &map->entries_[position - 1];
}

struct statement *statement_map_get(const struct statement_map *map, struct bytes name)
{
    const struct statement_map_entry *entry = map_entry(map, name);

    return entry == NULL || (entry->word & HIDDEN) ? NULL : statement_of(entry);
}

void statement_map_put(struct statement_map *map, struct bytes name, struct statement *s)
{
    struct statement_map_entry *entry = map_entry(map, name);
    struct statement_map_entry before;

    if (entry != NULL) {
        /* In this order, since it may be the same statement, and its alias the name. */
        before = *entry;
        map->text_bytes += s->text->tail_len;
        map->text_bytes -= statement_of(&before)->text->tail_len;
        entry_fill(entry, name, s);
        entry_release(&before);
        return;
    }
    if (map->count == map->room_) {
        INVARIANT(map->room_ <= UINT32_MAX / 4);
        map_resize(map,
                   map->room_ + (map->room_ < 64 ? map->room_ / 2 : map->room_ / 4) + ROOM_MIN / 2);
    }
    map->text_bytes += s->text->tail_len;
    entry_fill(&map->entries_[map->count++], name, s);
    index_add(map, (uint32_t)statement_hash(name), map->count);
}

/* Moves up whoever probed past the hole, so that no search ends there too early. */
static void index_close_hole(struct statement_map *map, uint32_t hole)
{
    uint32_t mask = mask_of(map);
    uint32_t position;

    for (uint32_t i = (hole + 1) & mask; (position = slot_get(map, i)) != 0; i = (i + 1) & mask) {
        uint32_t home = home_of(map, position);

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            slot_set(map, hole, position);
            hole = i;
        }
    }
    slot_set(map, hole, 0);
}

/* The last entry takes the place of the one that goes. */
static void map_drop(struct statement_map *map, uint32_t slot, uint32_t position)
{
    struct statement_map_entry dropped = map->entries_[position - 1];

    index_close_hole(map, slot);
    if (position != map->count) {
        uint32_t mask = mask_of(map);
        uint32_t i = home_of(map, map->count);

        while (slot_get(map, i) != map->count)
            i = (i + 1) & mask;
        slot_set(map, i, position);
        map->entries_[position - 1] = map->entries_[map->count - 1];
    }
    map->count--;
    map->text_bytes -= statement_of(&dropped)->text->tail_len;
    entry_release(&dropped);
    if (map->room_ > ROOM_MIN && map->count < map->room_ / 4)
        map_resize(map, MAX(map->room_ / 2, (uint32_t)ROOM_MIN));
}

bool statement_map_remove(struct statement_map *map, struct bytes name)
{
    uint32_t position;

    if (map->count == 0)
        return false;
    uint32_t slot = map_find(map, (uint32_t)statement_hash(name), name, &position);
    if (position == 0)
        return false;
    bool hidden = map->entries_[position - 1].word & HIDDEN;
    map_drop(map, slot, position);
    return !hidden;
}

struct statement *statement_map_hide(struct statement_map *map, struct bytes name, uint32_t *ticket)
{
    struct statement_map_entry *entry = map_entry(map, name);

    if (entry == NULL || (entry->word & HIDDEN))
        return NULL;
    entry->word |= HIDDEN;
    *ticket = (uint32_t)statement_hash(name);
    return statement_of(entry);
}

void statement_map_settle(struct statement_map *map, const struct statement *s, uint32_t ticket,
                          bool gone)
{
    uint32_t mask;
    uint32_t position;

    if (map->count == 0)
        return;
    mask = mask_of(map);
    for (uint32_t i = ticket & mask; (position = slot_get(map, i)) != 0; i = (i + 1) & mask) {
        struct statement_map_entry *entry = &map->entries_[position - 1];

        if (statement_of(entry) != s || (entry->word & HIDDEN) == 0 ||
            (uint32_t)statement_hash(name_of(entry)) != ticket)
            continue;
        if (gone)
            map_drop(map, i, position);
        else
            entry->word &= ~(uintptr_t)HIDDEN;
        return;
    }
}

void statement_map_clear(struct statement_map *map)
{
    for (uint32_t i = 0; i < map->count; i++)
        entry_release(&map->entries_[i]);
    free(map->entries_);
    *map = (struct statement_map){0};
}

size_t statement_map_bytes(const struct statement_map *map)
{
    size_t bytes = map->room_ == 0 ? 0
                                   : map->room_ * sizeof *map->entries_ +
                                         (size_t)slots_of(map->room_) * slot_width(map->room_);

    for (uint32_t i = 0; i < map->count; i++) {
        if (map->entries_[i].word & NAME_FAR)
            bytes += sizeof(struct statement_name) + map->entries_[i].name.far->len;
    }
    return bytes;
}

void statement_map_each(const struct statement_map *map,
                        void (*visit)(void *context, struct bytes name, struct statement *s),
                        void *context)
{
    for (uint32_t i = 0; i < map->count; i++) {
        if ((map->entries_[i].word & HIDDEN) == 0)
            visit(context, name_of(&map->entries_[i]), statement_of(&map->entries_[i]));
    }
}

void statement_map_check(const struct statement_map *map)
{
    uint32_t indexed = 0;
    uint64_t text_bytes = 0;

    INVARIANT(map->count <= map->room_);
    for (uint32_t i = 0; i < map->count; i++) {
        INVARIANT(map_entry(map, name_of(&map->entries_[i])) == &map->entries_[i]);
        text_bytes += statement_of(&map->entries_[i])->text->tail_len;
    }
    for (uint32_t i = 0; map->room_ > 0 && i <= mask_of(map); i++)
        indexed += slot_get(map, i) != 0;
    INVARIANT(indexed == map->count && text_bytes == map->text_bytes);
}
