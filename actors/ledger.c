#include "actors/ledger.h"

#include <stdlib.h>

void ledger_free(struct ledger *l)
{
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
    *l = (struct ledger){ring, 0, count, size};
}

void ledger_push(struct ledger *l, enum ledger_kind kind, enum ledger_for whose,
                 struct statement *statement)
{
    if (UNLIKELY(ledger_count(l) == l->size))
        ledger_grow(l);
    l->ring[l->tail++ & (l->size - 1)] = (struct ledger_entry){
        .kind = (uint8_t)kind, .whose = (uint8_t)whose, .statement = statement};
}
