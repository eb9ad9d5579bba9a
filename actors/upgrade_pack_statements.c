/* From actors to records: prepared statements, numbered as they are met. */
#include "actors/upgrade_packing.h"

#include <stdlib.h>

struct statement_slot {
    struct statement *statement;
    size_t number;
};

static struct statement_slot *slot_of(const struct packing *p, const struct statement *s)
{
    size_t at = (size_t)s->hash & (p->slot_count - 1);

    while (p->slots[at].statement != NULL && p->slots[at].statement != s)
        at = (at + 1) & (p->slot_count - 1);
    return &p->slots[at];
}

void slots_grow(struct packing *p)
{
    struct statement_slot *before = p->slots;
    size_t count = p->slot_count;

    p->slot_count = MAX(count * 2, (size_t)1024);
    p->slots = calloc(p->slot_count, sizeof *p->slots);
    p->load->statements = realloc(p->load->statements, p->slot_count * sizeof(struct statement *));
    INVARIANT(p->slots != NULL && p->load->statements != NULL);
    for (size_t i = 0; i < count; i++) {
        if (before[i].statement != NULL)
            *slot_of(p, before[i].statement) = before[i];
    }
    free(before);
}

uint64_t statement_number(struct packing *p, struct statement *s)
{
    if (s == NULL)
        return 0;
    if ((p->load->statement_count + 1) * 2 > p->slot_count)
        slots_grow(p);
    struct statement_slot *slot = slot_of(p, s);
    if (slot->statement == NULL) {
        p->load->statements[p->load->statement_count++] = s;
        *slot = (struct statement_slot){s, p->load->statement_count};
    }
    return slot->number;
}

static uint64_t pool_of_cache(const struct packing *p, const struct statement_cache *cache)
{
    for (size_t i = 0; i < p->load->pool_count; i++) {
        if (&p->load->pools[i]->shared->statements == cache)
            return i + 1;
    }
    return 0;
}

void put_statements(struct packing *p)
{
    state_section_begin(p->out, STATE_STATEMENTS, true);
    for (size_t i = 0; i < p->load->statement_count; i++) {
        struct statement *s = p->load->statements[i];
        struct state_statement record = {
            .id = i + 1,
            .number = s->number,
            .used = atomic_load_explicit(&s->used, memory_order_relaxed),
            .tail = {s->text->tail, s->text->tail_len},
            .pool = pool_of_cache(p, s->cache),
            .digest = s->digest,
            .retired = atomic_load_explicit(&s->retired, memory_order_relaxed),
            .kinds = atomic_load_explicit(&s->kinds, memory_order_relaxed),
            .hits = atomic_load_explicit(&s->hits, memory_order_relaxed),
            .misses = atomic_load_explicit(&s->misses, memory_order_relaxed),
        };

        state_put_statement(p->out, &record);
    }
    state_section_end(p->out);
}

struct statement_list {
    struct packing *p;
    struct packer *out;
    uint32_t count;
};

static void put_stamped(void *context, struct statement *s, uint32_t stamp)
{
    struct statement_list *list = context;

    pack_array(list->out, 2);
    pack_uint(list->out, statement_number(list->p, s));
    pack_uint(list->out, stamp);
    list->count++;
}

struct bytes set_of(struct packing *p, const struct statement_set *set)
{
    struct statement_list list = {p, scratch_list(&p->scratch), 0};

    if (set == NULL)
        return (struct bytes){NULL, 0};
    size_t mark = pack_array_open(list.out);
    statement_set_each_stamped(set, put_stamped, &list);
    pack_array_close(list.out, mark, list.count);
    return packed(list.out);
}

static void put_named(void *context, struct bytes name, struct statement *s)
{
    struct statement_list *list = context;

    pack_array(list->out, 2);
    pack_bin(list->out, name.at, name.len);
    pack_uint(list->out, statement_number(list->p, s));
    list->count++;
}

struct bytes names_of(struct packing *p, const struct statement_map *map)
{
    struct statement_list list = {p, scratch_list(&p->scratch), 0};

    if (map->count == 0)
        return (struct bytes){NULL, 0};
    size_t mark = pack_array_open(list.out);
    statement_map_each(map, put_named, &list);
    pack_array_close(list.out, mark, list.count);
    return packed(list.out);
}
