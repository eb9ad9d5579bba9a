/* statement.h: prepared statements: their texts, stored once, and who knows which.
 *
 * A statement is what follows the name in a Parse message: query text and parameter types. Equal
 * ones are one object, process-wide, with one server-side name (DOORMAN_<number>); text is
 * compared, not only its hash. Sessions map the client's names to statements (statement_map), a
 * backend remembers which ones it holds (statement_set). Objects are reference-counted (any
 * thread); maps and sets belong to one actor and know no locks.
 */
#ifndef ACTORS_STATEMENT_H
#define ACTORS_STATEMENT_H

#include "runtime/base.h"

#include <stdatomic.h>

struct statement {
    _Atomic uint32_t references;
    uint32_t name_len;     /* without NUL */
    uint64_t number;       /* 64 bits: a name that came round again would run another's query */
    uint64_t hash;         /* keyed, other in each process */
    _Atomic uint64_t used; /* Parses and Binds; counted by the callers */
    uint32_t tail_len;
    uint16_t leaves; /* bits of enum scan_kind: what running it may leave behind */
    char name[28];   /* "DOORMAN_<number>" */
    uint8_t tail[];  /* query NUL, int16 count, int32 types: as in Parse */
};

/* The statement with this Parse tail; one reference for the caller. Any thread; short lock of one
 * of many shards. NULL when there is no memory for the text, or the process's limit for texts is
 * reached (not for now). */
struct statement *statement_intern(const uint8_t *tail, size_t len);
struct statement *statement_ref(struct statement *s);
void statement_unref(struct statement *s); /* the last one frees it and forgets the text */
/* How many there are and how many bytes of text; racing sums. */
void statement_totals(uint64_t *count, uint64_t *bytes);
/* Calls visit for all of them under the shards' locks; visit must not intern or unref. */
void statement_each(void (*visit)(void *context, const struct statement *s), void *context);

/* What one backend holds: membership with exact LRU order, bounded. */
struct statement_set;
struct statement_set *statement_set_new(uint32_t bound);
void statement_set_free(struct statement_set *set); /* NULL is fine */
/* Promotes. */
bool statement_set_has(struct statement_set *set, const struct statement *s);
/* Takes a reference; must not be in it. The bound may be exceeded: see statement_set_excess. */
void statement_set_add(struct statement_set *set, struct statement *s);
void statement_set_remove(struct statement_set *set, const struct statement *s); /* if there */
void statement_set_clear(struct statement_set *set);
uint32_t statement_set_count(const struct statement_set *set);
/* The least recently used one while there are more than the bound, else NULL. Borrowed; the caller
 * closes it on the backend and removes it. */
struct statement *statement_set_excess(const struct statement_set *set);

/* A client's names. Nothing is allocated before the first put. */
struct statement_map {
    struct statement_map_entry *entries_;
    uint32_t size_;
    uint32_t count;
};
/* Borrowed; NULL when there is none. */
struct statement *statement_map_get(const struct statement_map *map, struct bytes name);
/* Replaces silently; takes a reference; copies the name. */
void statement_map_put(struct statement_map *map, struct bytes name, struct statement *s);
bool statement_map_remove(struct statement_map *map, struct bytes name); /* false: not there */
void statement_map_clear(struct statement_map *map);
/* In no order; visit must not change the map. */
void statement_map_each(const struct statement_map *map,
                        void (*visit)(void *context, struct bytes name, struct statement *s),
                        void *context);

#endif
