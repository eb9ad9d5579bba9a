#include "actors/ledger.h"

#include "actors/statement.h"

#include <stdlib.h>

void ledger_release_head(struct ledger *l)
{
    struct ledger_entry *head = ledger_head(l);

    l->unsure -= (head->owns & OWNS_UNSURE) != 0;
    l->holds -= (head->owns & OWNS_HOLD) != 0;
    if (head->owns & OWNS_STATEMENT)
        statement_unref(head->statement);
    if (head->owns & OWNS_TEXT)
        free(head->missing);
    head->owns = 0;
    head->statement = NULL;
    head->missing = NULL;
}

void ledger_own(struct ledger *l, struct statement *statement)
{
    struct ledger_entry *entry = ledger_last(l);

    entry->statement = statement_ref(statement);
    entry->owns |= OWNS_STATEMENT;
    if (entry->whose != FROM_POOLER)
        ledger_doubt(l, false);
}

void ledger_doubt(struct ledger *l, bool hold)
{
    struct ledger_entry *entry = ledger_last(l);

    entry->owns |= OWNS_UNSURE;
    l->unsure++;
    if (!hold)
        return;
    entry->owns |= OWNS_HOLD;
    l->holds++;
}

void ledger_sure(struct ledger *l)
{
    struct ledger_entry *head = ledger_head(l);

    l->unsure -= (head->owns & OWNS_UNSURE) != 0;
    l->holds -= (head->owns & OWNS_HOLD) != 0;
    head->owns &= (uint8_t) ~(OWNS_UNSURE | OWNS_HOLD);
}

uint32_t ledger_syncs(const struct ledger *l)
{
    uint32_t count = 0;

    for (uint32_t i = l->head; i != l->tail; i++)
        count += ends_ready(&l->ring[i & (l->size - 1)]);
    return count;
}

void ledger_own_all(struct ledger *l)
{
    for (uint32_t i = l->head; i != l->tail; i++) {
        struct ledger_entry *entry = &l->ring[i & (l->size - 1)];

        if (entry->statement == NULL || (entry->owns & OWNS_STATEMENT))
            continue;
        statement_ref(entry->statement);
        entry->owns |= OWNS_STATEMENT;
    }
}

void ledger_free(struct ledger *l)
{
    while (!ledger_empty(l))
        ledger_pop(l);
    free(l->ring);
    *l = (struct ledger){0};
}

COLD static void ledger_grow(struct ledger *l)
{
    uint32_t size = MAX(l->size * 2, 32u);
    struct ledger_entry *ring = malloc(size * sizeof *ring);
    uint32_t count = ledger_count(l);

    INVARIANT(ring != NULL);
    for (uint32_t i = 0; i < count; i++)
        ring[i] = l->ring[(l->head + i) & (l->size - 1)];
    free(l->ring);
    *l = (struct ledger){ring, 0, count, size, l->unsure, l->holds};
}

struct ledger_entry *ledger_push(struct ledger *l, enum ledger_kind kind, enum ledger_for whose)
{
    if (UNLIKELY(ledger_count(l) == l->size))
        ledger_grow(l);
    struct ledger_entry *entry = &l->ring[l->tail++ & (l->size - 1)];
    *entry = (struct ledger_entry){.kind = (uint8_t)kind, .whose = (uint8_t)whose};
    return entry;
}
