#include "actors/ledger.h"

#include "actors/statement.h"

#include <stdlib.h>

void ledger_release_head(struct ledger *l)
{
    struct ledger_entry *head = ledger_head(l);

    if (head->statement != NULL) {
        l->parses -= head->kind == ASK_PARSE;
        statement_unref(head->statement);
    }
    free(head->missing);
    head->statement = NULL;
    head->missing = NULL;
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
    *l = (struct ledger){ring, 0, count, size, l->parses};
}

struct ledger_entry *ledger_push(struct ledger *l, enum ledger_kind kind, enum ledger_for whose,
                                 struct statement *statement)
{
    if (UNLIKELY(ledger_count(l) == l->size))
        ledger_grow(l);
    struct ledger_entry *entry = &l->ring[l->tail++ & (l->size - 1)];
    *entry = (struct ledger_entry){
        .kind = (uint8_t)kind, .whose = (uint8_t)whose, .statement = statement};
    if (statement != NULL) {
        statement_ref(statement);
        l->parses += kind == ASK_PARSE;
    }
    return entry;
}
