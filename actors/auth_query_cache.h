/* auth_query_cache.h: what auth_query has said of which users, and when.
 *
 * An entry remembers that a name was found, or that there is no such user; the secret itself lies
 * in struct pool_shared. Bounded, since anybody may ask for any name: beyond ENTRIES_MAX the oldest
 * answer goes, "no such user" before the others. Pure; one owner.
 */
#ifndef ACTORS_AUTH_QUERY_CACHE_H
#define ACTORS_AUTH_QUERY_CACHE_H

#include "runtime/base.h"

enum { ROLE_NAME_MAX = 63, CACHE_ENTRIES_MAX = 10000 };

struct cache_entry {
    struct cache_entry *chain;
    struct cache_entry *older; /* of those with the same answer, by the time of it */
    struct cache_entry *newer;
    uint64_t hash;
    uint64_t fetched_us;
    uint64_t refetched_us; /* after a login that failed; 0: never */
    bool found;
    bool distrusted; /* to be asked for again at the next login */
    char user[ROLE_NAME_MAX + 1];
};

struct cache_list {
    struct cache_entry *oldest;
    struct cache_entry *newest;
};

struct auth_query_cache {
    struct cache_entry **chains; /* NULL: empty */
    size_t count;
    struct cache_list lists[2]; /* unknown, found */
    uint64_t ttl_us[2];         /* of "no such user", of found ones */
};

/* All zero is an empty one. */
void cache_clear(struct auth_query_cache *c);
/* The entry of that name, however old; NULL: none. Borrowed until the next put or clear. */
struct cache_entry *cache_find(const struct auth_query_cache *c, const char *user);
/* May the answer still be given? */
bool cache_valid(const struct auth_query_cache *c, const struct cache_entry *entry,
                 uint64_t now_us);
/* The answer as of now, in place of an earlier one. At most ROLE_NAME_MAX bytes. */
struct cache_entry *cache_put(struct auth_query_cache *c, const char *user, bool found,
                              uint64_t now_us);

#endif
