/* statement.h: prepared statements: their texts, stored once, and who knows which.
 *
 * Five structures, from the inside out:
 *   text       what follows the name in a Parse: query and parameter types; each once per process
 *   statement  a text in one pool under certain settings, with its server-side name
 *              (DOORMAN_<number>); the same for all clients and backends of the pool
 *   cache      the statements of a pool, bounded; who falls out of it lives on as long as a client
 *              or a backend refers to it
 *   set        what one backend holds, or which texts a client sent without a name: bounded LRU
 *   map        a client's names
 * Texts and statements are found by a keyed hash and compared in full; they are reference-counted
 * (any thread). Sets and maps belong to one actor and know no locks.
 */
#ifndef ACTORS_STATEMENT_H
#define ACTORS_STATEMENT_H

#include "runtime/base.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

/* As what clients know a statement: bits. */
/* The digest of one that came without settings: no backend has it under that name. */
#define STATEMENT_UNREAD UINT64_MAX
enum { STATEMENT_NAMED = 1, STATEMENT_ANONYMOUS = 2 };
enum { STATEMENT_IS_NAMED, STATEMENT_IS_ANONYMOUS, STATEMENT_IS_COUNT };

struct statement_text {
    _Atomic uint32_t references;
    uint32_t tail_len;
    uint32_t query_len;
    uint16_t leaves; /* bits of enum scan_kind: what running it may leave behind */
    uint64_t hash;   /* keyed, other in each process */
    /* When it was last parsed or bound as named, as anonymous; 0: SHOW INTERNER does not list it.
     * Good to a tenth of a second. */
    _Atomic uint64_t seen_us[STATEMENT_IS_COUNT];
    uint64_t marked_us; /* the sweep's */
    uint8_t traits;
    uint8_t tail[]; /* query NUL, int16 count, int32 types: as in Parse */
};

/* Of a text. */
enum {
    TEXT_BEYOND_ASCII = 1, /* its meaning depends on client_encoding */
    TEXT_MAY_COPY = 2,     /* COPY, from or to the client */
    TEXT_FREES_NAME = 4,   /* DEALLOCATE of a name */
    TEXT_CLEARS = 8,       /* takes all prepared statements with it */
};

struct statement_name {
    uint32_t len;
    uint8_t at[];
};

struct statement {
    _Atomic uint32_t references;
    uint32_t name_len; /* without NUL */
    uint64_t hash;
    struct statement_text *text;
    char name[28]; /* "DOORMAN_<number>" */
    uint16_t leaves;
    uint8_t traits;
    _Atomic bool retired; /* to be looked up again: its meaning on backends is out of date */
    uint64_t digest;      /* of the settings under which its text is read */

    /* Written with each use, so on a line of their own. */
    alignas(CACHE_LINE) _Atomic uint64_t used; /* Parses and Binds */
    _Atomic uint64_t hits;                     /* Parses that no server had to see */
    _Atomic uint64_t misses;
    _Atomic uint8_t kinds;
    _Atomic bool cached;

    /* the cache's, under its lock */
    uint64_t used_at_hand;
    bool listed; /* found by its key; under the registry's lock */
    struct statement *next;
    struct statement *previous;
    struct statement_cache *cache;

    uint64_t number; /* 64 bits: a name that came round again would run another's query */
    /* A long name that a client gave it: others mostly give the same, and then need no copy. */
    _Atomic(struct statement_name *) alias;
};

struct statement_cache {
    pthread_mutex_t lock;
    struct statement *hand;
    uint32_t count;
    uint32_t bound;
    uint64_t bytes;
    _Atomic uint64_t evictions;
};

/* What is looked for. Borrows the tail. */
struct statement_key {
    struct statement_cache *cache;
    uint64_t digest;
    struct bytes tail;
    uint64_t text_hash;
    uint64_t hash;
    bool may_exceed; /* a new text may go over statement_bytes_limit, up to twice of it */
};

/* Process-wide counts. */
struct statement_events {
    _Atomic uint64_t named_evictions;     /* texts that nobody refers to any more */
    _Atomic uint64_t anonymous_evictions; /* texts that rested for longer than their time to live */
    _Atomic uint64_t synthetic_misses;    /* Binds of an unnamed statement that is not there */
    _Atomic uint64_t refused;             /* Parses beyond the limits */
    _Atomic uint64_t lost;                /* found missing or outdated on a backend */
    _Atomic uint64_t replayed;            /* of them, batches that were sent again unnoticed */
};
extern struct statement_events statement_events;
/* Over so many bytes of texts there are no new ones, but for those whose key may exceed. */
extern _Atomic uint64_t statement_bytes_limit;
/* How many there are now. */
extern _Atomic uint64_t statement_text_bytes;
/* Half of the limit is in use: from here on everybody gives up what is only kept for later. */
static inline bool statement_pressed(void)
{
    return atomic_load_explicit(&statement_text_bytes, memory_order_relaxed) >
           atomic_load_explicit(&statement_bytes_limit, memory_order_relaxed) / 2;
}
/* How many bytes of texts one backend may keep; UINT64_MAX when there is no pressure. */
uint64_t statement_set_allowance(void);

/* Hashes the tail, once. */
struct statement_key statement_key_of(struct statement_cache *cache, uint64_t digest,
                                      struct bytes tail);
/* Finds or makes it; in its cache afterwards; a reference for the caller. Any thread; short locks.
 * NULL when there is no memory, or the limit is reached. */
struct statement *statement_get(const struct statement_key *key);
/* The same for one that servers know under a number already, without the limit. If it has another
 * number here, look at it. The numbers of new ones begin behind `next`. */
struct statement *statement_restore(const struct statement_key *key, uint64_t number);
void statement_numbers_begin(uint64_t next);
uint64_t statement_numbers_next(void);
/* The key of all hashes of this process, 16 bytes: those of another process mean the same here if
 * it has the same key. To be set before anything is hashed. */
enum { STATEMENT_KEY_BYTES = 16 };
void statement_hash_key_get(uint8_t out[STATEMENT_KEY_BYTES]);
void statement_hash_key_set(const uint8_t key[STATEMENT_KEY_BYTES]);
static inline bool statement_is(const struct statement *s, const struct statement_key *key)
{
    return s->cache == key->cache && s->digest == key->digest &&
           s->text->tail_len == key->tail.len &&
           memcmp(s->text->tail, key->tail.at, key->tail.len) == 0;
}
struct statement *statement_ref(struct statement *s);
void statement_unref(struct statement *s); /* the last one frees it, and maybe its text */
/* Never found again: whoever looks for its text gets a new one. */
void statement_retire(struct statement *s);
const char *statement_kind_name(const struct statement *s); /* named, anonymous, mixed */

/* A Parse or Bind under a name, or without one. */
static inline void statement_use(struct statement *s, bool anonymous, uint64_t now_us)
{
    uint8_t kind = anonymous ? STATEMENT_ANONYMOUS : STATEMENT_NAMED;
    _Atomic uint64_t *seen = &s->text->seen_us[anonymous];

    atomic_fetch_add_explicit(&s->used, 1, memory_order_relaxed);
    if (UNLIKELY((atomic_load_explicit(&s->kinds, memory_order_relaxed) & kind) == 0))
        atomic_fetch_or_explicit(&s->kinds, kind, memory_order_relaxed);
    /* Not each time: many threads read this line. */
    if (now_us > atomic_load_explicit(seen, memory_order_relaxed) + 100000)
        atomic_store_explicit(seen, now_us, memory_order_relaxed);
}

/* --- texts --- */

/* How many there are and how many bytes; racing sums. */
void statement_totals(uint64_t *count, uint64_t *bytes);
/* Calls visit for all under the locks of their shards; visit must not get or unref. */
void statement_text_each(void (*visit)(void *context, const struct statement_text *text),
                         void *context);
/* To be called from time to time: anonymous texts that were not used for longer are taken off the
 * list at the second sweep that finds them so. ttl_us 0: never. */
void statement_text_sweep(uint64_t now_us, uint64_t ttl_us);
/* Empties the list; uses fill it again. */
void statement_text_reset(void);

/* --- a pool's cache --- */

void statement_cache_init(struct statement_cache *cache);
void statement_cache_limit(struct statement_cache *cache, uint64_t bound); /* at least 1 is kept */
void statement_cache_clear(struct statement_cache *cache);
/* Under pressure gives up those that neither a client nor a backend refers to, until half of
 * statement_bytes_limit is reached; looks at no more than so many. Each admission does a little of
 * it. How many were given up. */
uint32_t statement_cache_relieve(struct statement_cache *cache, uint32_t looks);
/* Under the cache's lock; visit must not touch the cache. */
void statement_cache_each(struct statement_cache *cache,
                          void (*visit)(void *context, const struct statement *s), void *context);
void statement_cache_totals(struct statement_cache *cache, uint64_t *count, uint64_t *bytes);

/* --- a backend's statements, a client's unnamed ones: membership with exact LRU order --- */

struct statement_set;
struct statement_set *statement_set_new(uint32_t bound);
void statement_set_free(struct statement_set *set); /* NULL is fine */
void statement_set_limit(struct statement_set *set, uint32_t bound);
/* Promotes. */
bool statement_set_has(struct statement_set *set, const struct statement *s);
/* Borrowed, promoted; NULL when there is none. */
struct statement *statement_set_find(struct statement_set *set, const struct statement_key *key);
/* Takes a reference; must not be in it. The bound may be exceeded: see statement_set_excess. */
void statement_set_add(struct statement_set *set, struct statement *s);
/* The same, but as the least recently used one. */
void statement_set_restore(struct statement_set *set, struct statement *s);
void statement_set_remove(struct statement_set *set, const struct statement *s); /* if there */
void statement_set_clear(struct statement_set *set);
uint32_t statement_set_count(const struct statement_set *set);
size_t statement_set_bytes(const struct statement_set *set);        /* without the statements */
uint64_t statement_set_text_bytes(const struct statement_set *set); /* of the statements' texts */
/* The least recently used one while there are more than the bound, else NULL. Borrowed; the caller
 * closes it on the backend and removes it. */
struct statement *statement_set_excess(const struct statement_set *set);
/* A number that the caller keeps with each: of the one that was last found or added; and the least
 * recently used one with its number, NULL when the set is empty. */
uint32_t *statement_set_stamp(struct statement_set *set);
struct statement *statement_set_oldest(const struct statement_set *set, uint32_t *stamp);
/* For one that moves to another process: from the most to the least recently used, and back. */
void statement_set_each_stamped(const struct statement_set *set,
                                void (*visit)(void *context, struct statement *s, uint32_t stamp),
                                void *context);
void statement_set_restore_stamped(struct statement_set *set, struct statement *s, uint32_t stamp);
/* From the most to the least recently used. */
void statement_set_each(const struct statement_set *set,
                        void (*visit)(void *context, struct statement *s), void *context);

/* --- a client's names. Nothing is allocated before the first put. --- */

struct statement_map {
    struct statement_map_entry *entries_;
    uint32_t room_;
    uint32_t count;
    uint64_t text_bytes; /* of what the names stand for, each time it is named */
};
/* Borrowed; NULL when there is none. */
struct statement *statement_map_get(const struct statement_map *map, struct bytes name);
/* Replaces silently; takes a reference; copies the name, which has no NUL in it. */
void statement_map_put(struct statement_map *map, struct bytes name, struct statement *s);
bool statement_map_remove(struct statement_map *map, struct bytes name); /* false: not there */
/* In two steps: hidden at once, and gone, or back, when it is known what the server did. The first
 * returns the statement, borrowed (NULL: not there), and what to tell the second. A put between
 * them wins. */
struct statement *statement_map_hide(struct statement_map *map, struct bytes name,
                                     uint32_t *ticket);
void statement_map_settle(struct statement_map *map, const struct statement *s, uint32_t ticket,
                          bool gone);
void statement_map_clear(struct statement_map *map);
size_t statement_map_bytes(const struct statement_map *map); /* without the statements */
/* In no order; visit must not change the map. */
void statement_map_each(const struct statement_map *map,
                        void (*visit)(void *context, struct bytes name, struct statement *s),
                        void *context);

#endif
