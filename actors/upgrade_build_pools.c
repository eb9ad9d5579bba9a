/* From records to actors: pools, what is known of them, and who waits for them. */
#include "actors/upgrade_building.h"

#include <openssl/mem.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { OVERLAY_MAX = 256 };

static void build_material(struct pool_shared *shared, struct bytes packed)
{
    struct unpacker u;
    uint8_t digest[SHA256_DIGEST_LENGTH];

    if (list_of(&u, packed) < 3)
        return;
    struct bytes secret = unpack_bytes(&u);
    struct bytes client_key = unpack_bytes(&u);
    struct bytes server_key = unpack_bytes(&u);
    pthread_mutex_lock(&shared->lock);
    if (!u.bad && shared->material == MATERIAL_PENDING && secret.len == sizeof digest &&
        client_key.len == SCRAM_KEY && server_key.len == SCRAM_KEY) {
        SHA256((const uint8_t *)shared->secret, strlen(shared->secret), digest);
        if (memcmp(digest, secret.at, sizeof digest) == 0) {
            memcpy(shared->client_key, client_key.at, SCRAM_KEY);
            memcpy(shared->server_key, server_key.at, SCRAM_KEY);
            shared->material = MATERIAL_KEYS;
        }
    }
    pthread_mutex_unlock(&shared->lock);
}

/* They are not of this moment: averages go on from here. */
static void build_counters(struct worker *w, struct pool_shared *shared, struct bytes packed)
{
#define X(name) {offsetof(struct pool_counters, name)},
    static const struct {
        size_t at;
    } places[] = {UPGRADE_POOL_COUNTERS(X)};
#undef X
    struct pool_counters *to[] = {counters_of(w, shared), &shared->previous};
    uint64_t numbers[COUNT_OF(places)];

    numbers_of(packed, numbers, COUNT_OF(numbers));
    for (size_t side = 0; side < COUNT_OF(to); side++) {
        for (size_t i = 0; i < COUNT_OF(places); i++)
            COUNT(*(uint64_t *)(void *)((uint8_t *)to[side] + places[i].at), numbers[i]);
    }
}

/* False: not ours to understand, or nonsense. */
static bool read_times(struct unpacker *u, uint32_t count, struct histogram_view *total,
                       struct histogram_view *recent)
{
    *total = *recent = (struct histogram_view){.count = 0};
    if (count % 3 != 1 || unpack_uint(u) != HISTOGRAM_BUCKETS)
        return false;
    for (uint32_t i = 1; i < count && !u->bad; i += 3) {
        uint64_t bucket = unpack_uint(u);
        uint64_t all = unpack_uint(u);
        uint64_t late = unpack_uint(u);

        if (bucket >= HISTOGRAM_BUCKETS || late > all)
            return false;
        total->counts[bucket] += all;
        total->count += all;
        recent->counts[bucket] += late;
        recent->count += late;
    }
    return !u->bad;
}

static void build_times(struct worker *w, struct pool_shared *shared, struct bytes packed)
{
    struct unpacker u;
    uint32_t kinds = list_of(&u, packed);
    struct histogram_view total;
    struct histogram_view recent;

    for (uint32_t kind = 0; kind < MIN(kinds, (uint32_t)TIME_KINDS); kind++) {
        if (!read_times(&u, unpack_array(&u), &total, &recent))
            return;
        histogram_adopt(&shared->times[kind], w->index, &total, &recent);
    }
}

/* A user that was found is so once more, as long as this configuration would look it up. */
static void build_user(struct worker *w, const char *database, const char *user,
                       const struct state_pool *record)
{
    struct pair pairs[OVERLAY_MAX];
    struct pair_list overlay = {pairs, 0};
    struct unpacker u = unpacker_of(record->overlay.at, record->overlay.len);
    char *secret = text_of(record->secret);

    while (u.at < u.end && !u.bad && overlay.count < COUNT_OF(pairs)) {
        struct bytes name = unpack_bytes(&u);
        struct bytes value = unpack_bytes(&u);

        pairs[overlay.count++] = (struct pair){text_of(name), text_of(value)};
    }
    pools_restore(w, database, user, secret, &overlay);
    for (size_t i = 0; i < overlay.count; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

static void build_known(struct building *b, size_t i, struct pool *p)
{
    const struct state_pool *record = &b->d->pools[i];
    uint8_t fingerprint[POOL_FINGERPRINT];

    INVARIANT(p->effective != NULL); /* its first message has configured it */
    pool_fingerprint(p->effective, fingerprint);
    b->opens_the_same[i] = bytes_equal(record->fingerprint,
                                       (struct bytes){fingerprint, sizeof fingerprint});
    build_material(p->shared, record->material);
    if (p->epoch < record->epoch)
        p->epoch = (uint32_t)record->epoch;
    p->paused |= record->paused != 0;
    p->scaling.creations += record->creations;
    if (!p->parameters_known && record->parameters_known != 0 && b->opens_the_same[i]) {
        packer_free(&p->parameters);
        packer_init(&p->parameters);
        pack_raw(&p->parameters, record->parameters.at, record->parameters.len);
        p->parameters_known = true;
    }
}

void build_pool(struct building *b, size_t i)
{
    const struct state_pool *record = &b->d->pools[i];
    char *database = text_of(record->database);
    char *user = text_of(record->user);

    if (record->dynamic != 0)
        build_user(b->w, database, user, record);
    struct pool_shared *shared = directory_add(database, user);
    free(database);
    free(user);
    b->shareds[i] = shared;
    build_counters(b->w, shared, record->counters);
    build_times(b->w, shared, record->times);
    if (atomic_load(&shared->ddl_epoch) < record->schema_epoch)
        atomic_store(&shared->ddl_epoch, (uint32_t)record->schema_epoch);
    struct actor *a = actor_find(atomic_load(&shared->pool));
    b->pools[i] = a == NULL ? pool_adopt_gone(b->w, shared) : pool_of(a);
    if (a != NULL)
        build_known(b, i, b->pools[i]);
}

static void place_one(struct building *b, uint64_t number)
{
    const struct state_backend *record = &b->d->backends[number - 1];
    struct backend *to = b->backends[number - 1];

    if (to != NULL && record->session == 0 && to->state != BACKEND_IDLE)
        pool_adopt_backend(b->w, b->pools[record->pool - 1], to, false);
}

void place_idle(struct building *b)
{
    for (size_t i = 0; i < b->d->pool_count; i++) {
        struct unpacker u;
        uint32_t count = list_of(&u, b->d->pools[i].idle);

        for (uint32_t at = 0; at < count; at++)
            place_one(b, unpack_uint(&u));
    }
    for (uint64_t number = 1; number <= b->d->backend_count; number++)
        place_one(b, number);
}

void place_waiters(struct building *b)
{
    for (size_t i = 0; i < b->d->pool_count; i++) {
        struct pool *p = b->pools[i];
        struct unpacker u;
        uint32_t count = p->removed ? 0 : list_of(&u, b->d->pools[i].waiters);

        for (uint32_t at = 0; at < count; at++) {
            uint32_t fields = unpack_array(&u);
            uint64_t number = unpack_uint(&u);
            uint64_t since_us = unpack_uint(&u);
            uint64_t deadline_us = unpack_uint(&u);
            struct session *s = session_of(actor_find(b->sessions[number - 1]));

            for (uint32_t rest = 3; rest < fields; rest++)
                unpack_skip(&u);
            s->ticket = 1;
            s->asked_us = since_us;
            s->flags |= SESSION_ASKED;
            p->mixed_deadlines = true;
            pool_append_waiter(p, (struct waiter){.session = b->sessions[number - 1],
                                                  .ticket = s->ticket,
                                                  .since_us = since_us,
                                                  .deadline_us = deadline_us + b->late_us});
            b->built->waiters++;
        }
    }
}
