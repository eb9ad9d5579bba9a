/* scan.h: what the SQL of a client may leave behind on its connection.
 *
 * Pure: reads the text once, keeps nothing, allocates nothing. It splits the text into statements
 * (quotes, dollar quotes and comments respected), looks at the first words of each, and, in the
 * whole text including what is quoted, for calls of the functions that keep state. Ordinary
 * queries are settled by one pass over their bytes, sixteen at a time. In doubt it says "may
 * leave": a reset too many costs a round trip, one too few hands one client's state to another.
 *
 * What a function does inside, or a DO block without naming one of those functions, is not seen.
 * INSERTs move sequences without a word in their text, so it is told who reads, not who moves them.
 */
#ifndef PROTO_SCAN_H
#define PROTO_SCAN_H

#include "runtime/base.h"

/* Kinds of state that outlive a transaction. */
enum scan_kind {
    SCAN_SET = 1,            /* settings */
    SCAN_PREPARE = 2,        /* prepared statements of SQL */
    SCAN_DECLARE = 4,        /* cursors */
    SCAN_ROLE = 8,           /* SET ROLE */
    SCAN_AUTHORIZATION = 16, /* SET SESSION AUTHORIZATION */
    SCAN_LISTEN = 32,
    SCAN_ADVISORY = 64, /* advisory locks of the session */
    SCAN_TEMP = 128,    /* temporary tables and whatever else is in pg_temp */
    SCAN_KINDS = 255,
};

/* In `leaves`, but not left: reads what sequences told this connection (currval, lastval). */
enum { SCAN_SEQUENCES = 1 << 12 };
/* In `leaves`, but not left: may be a COPY, from or to the client. */
enum { SCAN_COPIES = 1 << 13 };
/* In `leaves`: the same may come again without its text being seen (EXECUTE). */
enum { SCAN_LASTS = 1 << 15 };
/* In `clears`: RESET of `setting`, which clears SCAN_SET if nothing else was set. */
enum { SCAN_RESET_ONE = 1 << 15 };
/* As `setting`: more than one, or a name that was not understood. */
#define SCAN_MANY UINT32_MAX

struct scan_effect {
    uint16_t leaves;  /* kinds that may be there afterwards, even if the text fails halfway */
    uint16_t clears;  /* kinds that are gone for sure when it succeeds; wins over `leaves` */
    uint16_t seen;    /* kinds whose statements were understood, harmless ones (SET LOCAL) too */
    uint32_t setting; /* a hash of the name that was SET; 0: none */
};

/* The text of a Query or Parse, without its NUL. */
struct scan_effect scan_sql(const uint8_t *text, size_t len);
/* The same for its beginning, when the rest is not at hand: clears nothing and has seen nothing,
 * and may be a COPY. */
struct scan_effect scan_sql_start(const uint8_t *text, size_t len);
/* The function of a FunctionCall. */
uint16_t scan_function(uint32_t oid);

#endif
