/* ledger.h: what a backend still owes, in order.
 *
 * Each request that goes to a backend, and each that the pooler answers itself, has an entry.
 * Server messages consume entries from the head; so it is always known whom a reply is for, what to
 * swallow, where the pooler's own replies go, and whether the backend is synced. The ring grows
 * when it must and keeps its size: no allocation in the steady state.
 */
#ifndef ACTORS_LEDGER_H
#define ACTORS_LEDGER_H

#include "proto/scan.h"

struct statement;

enum ledger_kind {
    ASK_QUERY = 'Q',
    ASK_FUNCTION = 'F',
    ASK_PARSE = 'P',
    ASK_BIND = 'B',
    ASK_DESCRIBE_STATEMENT = 'D',
    ASK_DESCRIBE_PORTAL = 'd',
    ASK_EXECUTE = 'E',
    ASK_CLOSE = 'C',
    ASK_SYNC = 'S',
    ASK_COPY_END = 'c', /* sent before the server said that it copies; has no reply */
};

enum ledger_for {
    FOR_CLIENT,  /* the reply goes to the client */
    FOR_POOLER,  /* the reply is swallowed */
    FROM_POOLER, /* no reply comes: the pooler's own, if any, when the entry is at the head */
    FOR_MISSING, /* an error here is told as "statement does not exist" */
};

struct ledger_entry {
    uint8_t kind;
    uint8_t whose;
    struct scan_effect effect;   /* of its text on the backend, once it is answered */
    struct statement *statement; /* parsed or closed by this request; referenced */
    char *missing;               /* FOR_MISSING: the client's name; malloc'ed */
};

struct ledger {
    struct ledger_entry *ring;
    uint32_t head; /* free-running; size is a power of two */
    uint32_t tail;
    uint32_t size;
    uint32_t parses; /* Parses of shared statements that the server has not answered */
};

void ledger_free(struct ledger *l);
/* Takes a reference on the statement (NULL: none). The entry is valid until the next push. */
struct ledger_entry *ledger_push(struct ledger *l, enum ledger_kind kind, enum ledger_for whose,
                                 struct statement *statement);
/* Gives up what the entry at the head holds. */
void ledger_release_head(struct ledger *l);
static inline bool ledger_empty(const struct ledger *l)
{
    return l->head == l->tail;
}
static inline struct ledger_entry *ledger_head(struct ledger *l)
{
    return l->head == l->tail ? NULL : &l->ring[l->head & (l->size - 1)];
}
static inline struct ledger_entry *ledger_last(struct ledger *l)
{
    return l->head == l->tail ? NULL : &l->ring[(l->tail - 1) & (l->size - 1)];
}
static inline void ledger_pop(struct ledger *l)
{
    struct ledger_entry *head = ledger_head(l);

    INVARIANT(head != NULL);
    if (UNLIKELY(head->statement != NULL || head->missing != NULL))
        ledger_release_head(l);
    l->head++;
}
/* What was just popped, and held nothing: so there is room. */
static inline void ledger_push_front(struct ledger *l, struct ledger_entry entry)
{
    INVARIANT(l->size > 0 && l->tail - l->head < l->size);
    l->ring[--l->head & (l->size - 1)] = entry;
}
/* Does it end with a request that the server answers with ReadyForQuery? Others may be answered
 * when the server likes. */
static inline bool ledger_ends_ready(struct ledger *l)
{
    const struct ledger_entry *last = ledger_last(l);

    return last != NULL &&
           (last->kind == ASK_SYNC || last->kind == ASK_QUERY || last->kind == ASK_FUNCTION);
}
static inline uint32_t ledger_count(const struct ledger *l)
{
    return l->tail - l->head;
}

#endif
