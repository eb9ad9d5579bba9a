/* From records to actors: prepared statements. */
#include "actors/upgrade_building.h"

/* Room between the numbers of the two processes, since the other may go on for a while with texts
 * of its remaining clients. */
enum { STATEMENTS_APART = 1 << 24 };

static void build_statement(struct building *b, size_t i)
{
    const struct state_statement *record = &b->d->statements[i];
    struct pool_shared *shared = record->pool == 0 ? NULL : b->shareds[record->pool - 1];

    if (shared == NULL)
        return;
    struct statement_key key = statement_key_of(&shared->statements, record->digest, record->tail);
    struct statement *s = b->statements[i] = statement_restore(&key, record->number);
    INVARIANT(s != NULL);
    if (s->number == record->number) {
        atomic_store_explicit(&s->used, record->used, memory_order_relaxed);
        atomic_store_explicit(&s->hits, record->hits, memory_order_relaxed);
        atomic_store_explicit(&s->misses, record->misses, memory_order_relaxed);
    }
    atomic_fetch_or_explicit(&s->kinds, (uint8_t)record->kinds, memory_order_relaxed);
    if (record->retired != 0 && s->number == record->number)
        statement_retire(s);
}

/* Those that are not to be found any more come first: in their place there may be others. */
void build_statements(struct building *b)
{
    statement_numbers_begin(b->d->header.next_statement + STATEMENTS_APART);
    for (size_t i = 0; i < b->d->statement_count; i++) {
        if (b->d->statements[i].retired != 0)
            build_statement(b, i);
    }
    for (size_t i = 0; i < b->d->statement_count; i++) {
        if (b->d->statements[i].retired == 0)
            build_statement(b, i);
    }
}

struct statement *statement_of(const struct building *b, uint64_t number)
{
    return number == 0 ? NULL : b->statements[number - 1];
}

/* Servers know it under the number it had there. */
static bool same_name(const struct building *b, uint64_t number)
{
    const struct statement *s = statement_of(b, number);

    return s != NULL && s->number == b->d->statements[number - 1].number;
}

void build_set(struct building *b, struct statement_set *to, struct bytes packed, bool on_server)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        uint64_t number = unpack_uint(&u);
        uint64_t stamp = unpack_uint(&u);
        struct statement *s = statement_of(b, number);

        for (uint32_t at = 2; at < fields; at++)
            unpack_skip(&u);
        /* Under another name here than there: whoever needs it has it prepared under that. */
        if (s == NULL || (on_server && !same_name(b, number)) || statement_set_has(to, s))
            continue;
        statement_set_restore_stamped(to, s, (uint32_t)stamp);
    }
}

void build_statement_names(struct building *b, struct session *s, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        struct bytes name = unpack_bytes(&u);
        uint64_t number = unpack_uint(&u);

        if (statement_of(b, number) != NULL)
            statement_map_put(&s->statements, name, statement_of(b, number));
        for (uint32_t at = 2; at < fields; at++)
            unpack_skip(&u);
    }
}
