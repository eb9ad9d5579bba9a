#include "config/derive.h"

#include "config/effective.h"

#include <pthread.h>
#include <stdlib.h>

struct derived {
    struct derived *next;
    const struct pool_config *pool;
    struct pair_list overlay;
    struct effective effective;
    struct arena arena;
};

enum { BUCKETS = 1024 }; /* by user: each login looks */

static pthread_mutex_t derive_lock = PTHREAD_MUTEX_INITIALIZER;

static bool pairs_same(const struct pair_list *a, const struct pair_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->items[i].name, b->items[i].name) != 0 ||
            strcmp(a->items[i].value, b->items[i].value) != 0)
            return false;
    }
    return true;
}

static struct pair_list pairs_copy(struct arena *arena, const struct pair_list *from)
{
    struct pair_list copy = {.count = from->count};

    copy.items = arena_alloc(arena, (from->count + 1) * sizeof *copy.items);
    for (size_t i = 0; i < from->count; i++)
        copy.items[i] = (struct pair){arena_text(arena, from->items[i].name),
                                      arena_text(arena, from->items[i].value)};
    return copy;
}

static struct derived *derive(const struct pool_config *pool, const char *user,
                              const struct pair_list *overlay)
{
    struct derived *d = calloc(1, sizeof *d);

    INVARIANT(d != NULL);
    d->pool = pool;
    d->overlay = pairs_copy(&d->arena, overlay);
    d->effective = pool->auth_query->effective;
    d->effective.server_user = arena_text(&d->arena, user);
    d->effective.startup_parameters = pairs_merge(
        &d->arena, &pool->auth_query->effective.startup_parameters, &d->overlay);
    for (size_t i = 0; i < d->overlay.count; i++) {
        if (strcmp(d->overlay.items[i].name, "application_name") == 0)
            d->effective.application_name = d->overlay.items[i].value;
    }
    return d;
}

/* FNV-1a */
static size_t bucket_of(const char *user)
{
    uint32_t hash = 2166136261u;

    for (; *user != '\0'; user++)
        hash = (hash ^ (uint8_t)*user) * 16777619u;
    return hash % BUCKETS;
}

const struct effective *config_derive(struct config *config, const struct pool_config *pool,
                                      const char *user, const struct pair_list *overlay)
{
    pthread_mutex_lock(&derive_lock);
    if (config->derived_ == NULL) {
        config->derived_ = calloc(BUCKETS, sizeof(struct derived *));
        INVARIANT(config->derived_ != NULL);
    }
    struct derived **bucket = &config->derived_[bucket_of(user)];
    struct derived *d = *bucket;
    while (d != NULL && (d->pool != pool || strcmp(d->effective.server_user, user) != 0 ||
                         !pairs_same(&d->overlay, overlay)))
        d = d->next;
    if (d == NULL) {
        d = derive(pool, user, overlay);
        d->next = *bucket;
        *bucket = d;
    }
    pthread_mutex_unlock(&derive_lock);
    return &d->effective;
}

static void free_list(struct derived *list)
{
    while (list != NULL) {
        struct derived *next = list->next;

        arena_free(&list->arena);
        free(list);
        list = next;
    }
}

void derived_free(struct derived **buckets)
{
    for (size_t i = 0; buckets != NULL && i < BUCKETS; i++)
        free_list(buckets[i]);
    free(buckets);
}

struct startup_size startup_size(const struct effective *e)
{
    struct startup_size size = {0};
    size_t rest = 8 + sizeof "user" + strlen(e->server_user) + 1 + sizeof "database" +
                  strlen(e->server_database) + 1 + 1;
    bool named = false;

    for (size_t i = 0; i < e->startup_parameters.count; i++) {
        const struct pair *pair = &e->startup_parameters.items[i];

        size.body_bytes += strlen(pair->name) + 1 + strlen(pair->value) + 1;
        named |= strcmp(pair->name, "application_name") == 0;
    }
    if (!named)
        rest += sizeof "application_name" + strlen(e->application_name) + 1;
    size.packet_bytes = size.body_bytes + rest;
    size.fits = size.body_bytes <= STARTUP_BODY_BYTES_MAX &&
                size.packet_bytes <= STARTUP_PACKET_BYTES_MAX;
    return size;
}
