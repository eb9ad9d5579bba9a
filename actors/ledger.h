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
};

enum ledger_for {
    FOR_CLIENT,  /* the reply goes to the client */
    FOR_POOLER,  /* the reply is swallowed */
    FROM_POOLER, /* no reply comes: the pooler's own, if any, when the entry is at the head */
    FOR_MISSING, /* an error here is told as "statement does not exist" */
};

/* What an entry holds, and gives up when it is popped. */
enum {
    OWNS_STATEMENT = 1,
    OWNS_TEXT = 2,
    OWNS_UNNAMED = 4, /* the statement was the client's unnamed one */
    OWNS_UNSURE = 8,  /* counted in ledger.unsure */
    OWNS_HOLD = 16,   /* counted in ledger.holds */
};
/* Marks of an entry. */
enum {
    ENTRY_FIRST = 1,     /* nothing that the client sees came before it in its batch */
    ENTRY_DESCRIBED = 2, /* of its two answers the first has gone to the client */
    ENTRY_UNNAMED = 4,   /* a Parse of the unnamed statement, where statements are not remapped */
    ENTRY_COPIES = 8,    /* may be a COPY; with OWNS_HOLD: it is not known how far it has come */
};

struct ledger_entry {
    uint8_t kind;
    uint8_t whose;
    uint8_t owns;
    uint8_t marks;
    union {
        struct scan_effect effect; /* of its text on the backend, once it is answered */
        uint32_t ticket;           /* of a name that is closed (statement_map_hide) */
    };
    /* Parsed or closed by this request: referenced. Bound or described: borrowed from the backend's
     * set. */
    struct statement *statement;
    char *missing; /* FOR_MISSING: the client's name, or why not; malloc'ed */
};

struct ledger {
    struct ledger_entry *ring;
    uint32_t head; /* free-running; size is a power of two */
    uint32_t tail;
    uint32_t size;
    uint32_t unsure; /* requests that decide what the backend holds, not answered yet */
    uint32_t holds;  /* requests that nothing may follow until they are answered */
};

void ledger_free(struct ledger *l);
/* The entry is valid until the next push. */
struct ledger_entry *ledger_push(struct ledger *l, enum ledger_kind kind, enum ledger_for whose);
/* The last entry is about this statement: takes a reference. */
void ledger_own(struct ledger *l, struct statement *statement);
/* Until the last entry is answered nobody knows what the backend holds; hold: nothing may even be
 * sent behind it. */
void ledger_doubt(struct ledger *l, bool hold);
/* The entry at the head holds up nothing any more. */
void ledger_sure(struct ledger *l);
/* How many requests in it are answered with ReadyForQuery. */
uint32_t ledger_syncs(const struct ledger *l);
/* The backend's set is about to drop statements: those that entries borrow are referenced. */
void ledger_own_all(struct ledger *l);
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
    if (UNLIKELY(head->owns))
        ledger_release_head(l);
    l->head++;
}
static inline bool ends_ready(const struct ledger_entry *entry)
{
    return entry->kind == ASK_SYNC || entry->kind == ASK_QUERY || entry->kind == ASK_FUNCTION;
}
/* Does it end with a request that the server answers with ReadyForQuery? Others may be answered
 * when the server likes. */
static inline bool ledger_ends_ready(struct ledger *l)
{
    const struct ledger_entry *last = ledger_last(l);

    return last != NULL && ends_ready(last);
}
static inline uint32_t ledger_count(const struct ledger *l)
{
    return l->tail - l->head;
}

#endif
