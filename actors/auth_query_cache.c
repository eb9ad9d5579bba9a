#include "actors/auth_query_cache.h"

#include "actors/statement_internal.h" /* SipHash with a key of the process: anybody may name names */

#include <stdlib.h>

enum { CHAINS = 4096 }; /* power of two */

static struct cache_entry **chain_of(const struct auth_query_cache *c, uint64_t hash)
{
    return &c->chains[hash & (CHAINS - 1)];
}

/* --- by age --- */

static void list_remove(struct auth_query_cache *c, struct cache_entry *entry)
{
    struct cache_list *list = &c->lists[entry->found];

    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        list->oldest = entry->newer;
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        list->newest = entry->older;
    entry->older = entry->newer = NULL;
}

static void list_append(struct auth_query_cache *c, struct cache_entry *entry)
{
    struct cache_list *list = &c->lists[entry->found];

    entry->older = list->newest;
    if (list->newest != NULL)
        list->newest->newer = entry;
    else
        list->oldest = entry;
    list->newest = entry;
}

static void drop(struct auth_query_cache *c, struct cache_entry *entry)
{
    struct cache_entry **at = chain_of(c, entry->hash);

    while (*at != entry)
        at = &(*at)->chain;
    *at = entry->chain;
    list_remove(c, entry);
    c->count--;
    free(entry);
}

static bool expired(const struct auth_query_cache *c, const struct cache_entry *entry,
                    uint64_t now_us)
{
    return now_us >= entry->fetched_us && now_us - entry->fetched_us >= c->ttl_us[entry->found];
}

/* One of those with that answer, when it is over its time. */
static void drop_expired(struct auth_query_cache *c, bool found, uint64_t now_us)
{
    struct cache_entry *oldest = c->lists[found].oldest;

    if (oldest != NULL && expired(c, oldest, now_us))
        drop(c, oldest);
}

/* --- asking and telling --- */

static struct cache_entry *find(const struct auth_query_cache *c, const char *user, uint64_t hash)
{
    struct cache_entry *entry = c->chains == NULL ? NULL : *chain_of(c, hash);

    while (entry != NULL && (entry->hash != hash || strcmp(entry->user, user) != 0))
        entry = entry->chain;
    return entry;
}

struct cache_entry *cache_find(const struct auth_query_cache *c, const char *user)
{
    return find(c, user, statement_hash(bytes_of(user)));
}

bool cache_valid(const struct auth_query_cache *c, const struct cache_entry *entry, uint64_t now_us)
{
    return !entry->distrusted && !expired(c, entry, now_us);
}

static struct cache_entry *add(struct auth_query_cache *c, const char *user, uint64_t hash)
{
    struct cache_entry *entry = calloc(1, sizeof *entry);
    size_t len = strlen(user);

    if (c->chains == NULL)
        c->chains = calloc(CHAINS, sizeof(struct cache_entry *));
    INVARIANT(entry != NULL && c->chains != NULL && len <= ROLE_NAME_MAX);
    entry->hash = hash;
    memcpy(entry->user, user, len + 1);
    entry->chain = *chain_of(c, hash);
    *chain_of(c, hash) = entry;
    c->count++;
    return entry;
}

struct cache_entry *cache_put(struct auth_query_cache *c, const char *user, bool found,
                              uint64_t now_us)
{
    uint64_t hash = statement_hash(bytes_of(user));
    struct cache_entry *entry = find(c, user, hash);

    if (entry != NULL) {
        list_remove(c, entry);
    } else {
        drop_expired(c, false, now_us);
        drop_expired(c, true, now_us);
        if (c->count >= CACHE_ENTRIES_MAX)
            drop(c, c->lists[0].oldest != NULL ? c->lists[0].oldest : c->lists[1].oldest);
        entry = add(c, user, hash);
    }
    entry->found = found;
    entry->fetched_us = now_us;
    entry->distrusted = false;
    list_append(c, entry);
    return entry;
}

void cache_clear(struct auth_query_cache *c)
{
    while (c->lists[0].oldest != NULL)
        drop(c, c->lists[0].oldest);
    while (c->lists[1].oldest != NULL)
        drop(c, c->lists[1].oldest);
    free(c->chains);
    c->chains = NULL;
}
