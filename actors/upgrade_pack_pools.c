/* From actors to records: pools. */
#include "actors/upgrade_packing.h"

#include <openssl/sha.h>

static void hash_text(SHA256_CTX *sha, const char *at)
{
    static const char nothing[] = "\1";

    SHA256_Update(sha, at == NULL ? nothing : at, at == NULL ? 2 : strlen(at) + 1);
}

void pool_fingerprint(const struct effective *e, uint8_t out[POOL_FINGERPRINT])
{
    SHA256_CTX sha;
    uint32_t numbers[3] = {e->server_port, (uint32_t)e->server_tls_mode, (uint32_t)e->mode};

    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof numbers);
    hash_text(&sha, e->server_host);
    hash_text(&sha, e->server_database);
    hash_text(&sha, e->server_user);
    hash_text(&sha, e->server_password);
    hash_text(&sha, e->application_name);
    for (size_t i = 0; i < e->startup_parameters.count; i++) {
        hash_text(&sha, e->startup_parameters.items[i].name);
        hash_text(&sha, e->startup_parameters.items[i].value);
    }
    SHA256_Final(out, &sha);
}

/* Keys that a client has proved, so that the successor can open connections before one has. */
static struct bytes material_of(struct packing *p, struct pool_shared *shared)
{
    struct packer *list = scratch_list(&p->scratch);
    uint8_t secret[SHA256_DIGEST_LENGTH];

    pthread_mutex_lock(&shared->lock);
    if (shared->material == MATERIAL_KEYS && shared->secret != NULL) {
        SHA256((const uint8_t *)shared->secret, strlen(shared->secret), secret);
        pack_array(list, 3);
        pack_bin(list, secret, sizeof secret);
        pack_bin(list, shared->client_key, sizeof shared->client_key);
        pack_bin(list, shared->server_key, sizeof shared->server_key);
    }
    pthread_mutex_unlock(&shared->lock);
    return packed(list);
}

/* What the successor cannot know of a user that was found, and had to look up to serve it. */
static struct bytes secret_of(struct packing *p, struct pool_shared *shared)
{
    struct bytes secret = {NULL, 0};

    pthread_mutex_lock(&shared->lock);
    if (shared->secret != NULL) {
        secret.len = strlen(shared->secret);
        uint8_t *copy = scratch_bytes(&p->scratch, secret.len + 1);
        memcpy(copy, shared->secret, secret.len + 1);
        secret.at = copy;
    }
    pthread_mutex_unlock(&shared->lock);
    return secret;
}

static struct bytes overlay_of(struct packing *p, struct pool_shared *shared)
{
    struct packer *list = scratch_list(&p->scratch);

    pthread_mutex_lock(&shared->lock);
    size_t count = shared->overlay == NULL ? 0 : shared->overlay->count;
    for (size_t i = 0; i < count; i++) {
        pack_str(list, shared->overlay->items[i].name);
        pack_str(list, shared->overlay->items[i].value);
    }
    pthread_mutex_unlock(&shared->lock);
    return packed(list);
}

static void describe_user(struct packing *p, struct pool *pool, struct state_pool *record)
{
    record->dynamic = pool->dynamic;
    if (!pool->dynamic)
        return;
    record->secret = secret_of(p, pool->shared);
    record->overlay = overlay_of(p, pool->shared);
}

static struct bytes idle_of(struct packing *p, const struct pool *pool)
{
    struct packer *list = scratch_list(&p->scratch);
    uint32_t count = 0;
    size_t mark = pack_array_open(list);

    for (uint32_t i = 0; i < pool->idle_count; i++) {
        const struct backend *b = pool->idle[(pool->idle_head + i) & (pool->idle_size - 1)];
        uint32_t number = p->load->record_of[b->actor.index];

        if (number == 0)
            continue;
        pack_uint(list, number);
        count++;
    }
    pack_array_close(list, mark, count);
    return packed(list);
}

static struct bytes waiters_of(struct packing *p, const struct pool *pool)
{
    struct packer *list = scratch_list(&p->scratch);
    uint32_t count = 0;
    size_t mark = pack_array_open(list);

    for (uint64_t at = pool->waiters_head; at != pool->waiters_tail; at++) {
        const struct waiter *waiter = &pool->waiters[at & (pool->waiters_size - 1)];
        const struct actor *a = actor_find(waiter->session);
        uint32_t number = a == NULL ? 0 : p->load->record_of[a->index];

        if (number == 0)
            continue;
        pack_array(list, 3);
        pack_uint(list, number);
        pack_uint(list, waiter->since_us);
        pack_uint(list, waiter->deadline_us);
        count++;
    }
    pack_array_close(list, mark, count);
    return packed(list);
}

static struct bytes counters_list(struct packing *p, struct pool_shared *shared)
{
    struct pool_counters now = pool_counters_sum(shared);
    struct pool_counters *told = &shared->handed_over;
#define X(name) now.name - told->name,
    uint64_t numbers[] = {UPGRADE_POOL_COUNTERS(X)};
#undef X

    return numbers_list(p, numbers, COUNT_OF(numbers));
}

/* The layout of the buckets, then of each that something fell into: which one, how often, and how
 * often within the window. */
static uint32_t put_times(struct packer *list, const struct pool_shared *shared, int kind)
{
    const struct histogram_view *told = shared->times_handed_over;
    struct histogram_view total;
    struct histogram_view recent;
    uint32_t count = 1;

    histogram_total(&shared->times[kind], &total);
    histogram_recent(&shared->times[kind], &recent);
    pack_uint(list, HISTOGRAM_BUCKETS);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t news = total.counts[i] - (told == NULL ? 0 : told[kind].counts[i]);

        if (news == 0)
            continue;
        pack_uint(list, i);
        pack_uint(list, news);
        pack_uint(list, MIN(news, recent.counts[i]));
        count += 3;
    }
    return count;
}

static struct bytes times_of(struct packing *p, const struct pool_shared *shared)
{
    struct packer *list = scratch_list(&p->scratch);

    pack_array(list, TIME_KINDS);
    for (int kind = 0; kind < TIME_KINDS; kind++) {
        size_t mark = pack_array_open(list);

        pack_array_close(list, mark, put_times(list, shared, kind));
    }
    return packed(list);
}

/* Those that are closing are nobody's any more. */
static uint64_t staying_of(const struct packing *p, const struct pool *pool)
{
    uint64_t count = pool->staying; /* with one before this, if that has not ended yet */

    for (const struct backend *b = pool->backends; b != NULL; b = b->pool_next) {
        bool moves = b->actor.index < p->load->record_size &&
                     p->load->record_of[b->actor.index] != 0;

        count += b->state != BACKEND_CLOSING && !moves;
    }
    return count;
}

void put_pools(struct packing *p)
{
    state_section_begin(p->out, STATE_POOLS, true);
    for (size_t i = 0; i < p->load->pool_count; i++) {
        struct pool *pool = p->load->pools[i];
        uint8_t fingerprint[POOL_FINGERPRINT] = {0};

        if (!pool->removed)
            pool_fingerprint(pool->effective, fingerprint);
        struct state_pool record = {
            .id = i + 1,
            .database = text(pool->shared->database),
            .user = text(pool->shared->user),
            .fingerprint = {fingerprint, sizeof fingerprint},
            .epoch = pool->epoch,
            .paused = pool->paused,
            .parameters = {pool->parameters.start, pool->parameters.len},
            .parameters_known = pool->parameters_known,
            .material = material_of(p, pool->shared),
            .idle = idle_of(p, pool),
            .waiters = waiters_of(p, pool),
            .failures = pool->failures,
            .creations = pool->scaling.creations,
            .staying = staying_of(p, pool),
            .drains = p->load->scope != UPGRADE_EVERYTHING,
            .schema_epoch = atomic_load(&pool->shared->ddl_epoch),
        };
        if (atomic_load(&pool->shared->pool) == actor_id_of(&pool->actor)) {
            record.counters = counters_list(p, pool->shared);
            record.times = times_of(p, pool->shared);
        }
        describe_user(p, pool, &record);
        state_put_pool(p->out, &record);
        scratch_clear(&p->scratch);
    }
    state_section_end(p->out);
}
