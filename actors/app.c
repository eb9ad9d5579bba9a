#define LOG_MODULE "pg_doorman::app"
#include "actors/app.h"

#include <stdlib.h>

struct app app;

uint32_t app_leases(void)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < WORKERS_MAX; i++)
        sum += __atomic_load_n(&app.leases[i].count, __ATOMIC_RELAXED);
    return sum;
}

/* --- the configuration in force --- */

static pthread_mutex_t config_lock = PTHREAD_MUTEX_INITIALIZER;
static struct config *in_force;

struct config *app_config(void)
{
    /* The lock makes one step of "read the pointer" and "take a reference". */
    pthread_mutex_lock(&config_lock);
    INVARIANT(in_force != NULL);
    struct config *config = config_ref(in_force);
    pthread_mutex_unlock(&config_lock);
    return config;
}

void app_publish(struct config *config)
{
    pthread_mutex_lock(&config_lock);
    struct config *before = in_force;
    in_force = config;
    atomic_store(&app.anonymous_ttl_s,
                 (uint32_t)MIN(config->general.query_interner_anon_idle_ttl_seconds,
                               (uint64_t)UINT32_MAX / 2));
    atomic_store(&statement_bytes_limit, MAX(config->general.max_memory_usage, UINT64_C(1) << 26));
    atomic_store(&app.input_limit,
                 (int64_t)MIN(config->general.max_memory_usage, (uint64_t)INT64_MAX));
    pthread_mutex_unlock(&config_lock);
    config_unref(before);
}

/* --- cancel keys ---
 * Shards of open addressing with linear probing: 16 bytes a client, nothing to allocate but when a
 * shard doubles. */

enum { CANCEL_SHARDS = 64, CANCEL_SIZE_MIN = 64 };

struct cancel_key {
    uint32_t pid;
    uint32_t secret;
    actor_id session; /* 0: free */
};
struct cancel_shard {
    pthread_mutex_t lock;
    struct cancel_key *keys;
    uint32_t size; /* power of two */
    uint32_t count;
} __attribute__((aligned(CACHE_LINE)));

static struct cancel_shard cancel_shards[CANCEL_SHARDS] = {
    [0 ... CANCEL_SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

/* Numbers are handed out in turn, so the low bits spread over shards, the next ones within. */
static struct cancel_shard *cancel_shard_of(uint32_t pid)
{
    return &cancel_shards[pid % CANCEL_SHARDS];
}

static uint32_t cancel_home(const struct cancel_shard *shard, uint32_t pid)
{
    return (pid / CANCEL_SHARDS) & (shard->size - 1);
}

/* The place of that key, or where it would go. The table is never full. */
static uint32_t cancel_place(const struct cancel_shard *shard, uint32_t pid, uint32_t secret)
{
    uint32_t at = cancel_home(shard, pid);

    while (shard->keys[at].session != 0 &&
           (shard->keys[at].pid != pid || shard->keys[at].secret != secret))
        at = (at + 1) & (shard->size - 1);
    return at;
}

static void cancel_grow(struct cancel_shard *shard)
{
    struct cancel_key *before = shard->keys;
    uint32_t size = shard->size;

    shard->size = MAX(size * 2, (uint32_t)CANCEL_SIZE_MIN);
    shard->keys = calloc(shard->size, sizeof *shard->keys);
    INVARIANT(shard->keys != NULL);
    for (uint32_t i = 0; i < size; i++) {
        if (before[i].session != 0)
            shard->keys[cancel_place(shard, before[i].pid, before[i].secret)] = before[i];
    }
    free(before);
}

void cancel_register(uint32_t pid, uint32_t secret, actor_id session)
{
    struct cancel_shard *shard = cancel_shard_of(pid);

    INVARIANT(session != 0);
    pthread_mutex_lock(&shard->lock);
    if (shard->count * 4 >= shard->size * 3)
        cancel_grow(shard);
    struct cancel_key *key = &shard->keys[cancel_place(shard, pid, secret)];
    shard->count += key->session == 0;
    *key = (struct cancel_key){pid, secret, session};
    pthread_mutex_unlock(&shard->lock);
}

/* Closes the gap, so that probing finds what lies behind it. */
static void cancel_remove_at(struct cancel_shard *shard, uint32_t gap)
{
    uint32_t mask = shard->size - 1;

    for (uint32_t at = (gap + 1) & mask; shard->keys[at].session != 0; at = (at + 1) & mask) {
        uint32_t home = cancel_home(shard, shard->keys[at].pid);

        if (((at - home) & mask) < ((at - gap) & mask))
            continue;
        shard->keys[gap] = shard->keys[at];
        gap = at;
    }
    shard->keys[gap].session = 0;
    shard->count--;
}

void cancel_forget(uint32_t pid, uint32_t secret, actor_id session)
{
    struct cancel_shard *shard = cancel_shard_of(pid);

    pthread_mutex_lock(&shard->lock);
    if (shard->size > 0) {
        uint32_t at = cancel_place(shard, pid, secret);

        if (session != 0 && shard->keys[at].session == session)
            cancel_remove_at(shard, at);
    }
    pthread_mutex_unlock(&shard->lock);
}

actor_id cancel_find(uint32_t pid, struct bytes secret)
{
    struct cancel_shard *shard = cancel_shard_of(pid);
    uint32_t first;

    if (secret.len < sizeof first)
        return 0;
    memcpy(&first, secret.at, sizeof first);
    pthread_mutex_lock(&shard->lock);
    actor_id session = shard->size == 0 ? 0 : shard->keys[cancel_place(shard, pid, first)].session;
    pthread_mutex_unlock(&shard->lock);
    return session;
}

/* --- logins under way, oldest first --- */

static pthread_mutex_t login_lock = PTHREAD_MUTEX_INITIALIZER;
static struct login_entry *login_first;
static struct login_entry *login_last;
static _Atomic uint32_t login_begun_count;

void login_enter(struct login_entry *entry, actor_id session, uint64_t now_us)
{
    INVARIANT(entry->session == 0 && session != 0);
    pthread_mutex_lock(&login_lock);
    *entry = (struct login_entry){.previous = login_last, .session = session, .since_us = now_us};
    if (login_last != NULL)
        login_last->next = entry;
    else
        login_first = entry;
    login_last = entry;
    pthread_mutex_unlock(&login_lock);
}

/* With the lock. */
static void login_unlink(struct login_entry *entry)
{
    if (entry->session == 0)
        return;
    if (entry->previous != NULL)
        entry->previous->next = entry->next;
    else
        login_first = entry->next;
    if (entry->next != NULL)
        entry->next->previous = entry->previous;
    else
        login_last = entry->previous;
    atomic_fetch_sub(&login_begun_count, entry->begun);
    *entry = (struct login_entry){0};
}

void login_leave(struct login_entry *entry)
{
    pthread_mutex_lock(&login_lock);
    login_unlink(entry);
    pthread_mutex_unlock(&login_lock);
}

void login_begin(struct login_entry *entry)
{
    pthread_mutex_lock(&login_lock);
    if (entry->session != 0 && !entry->begun) {
        entry->begun = true;
        atomic_fetch_add(&login_begun_count, 1);
    }
    pthread_mutex_unlock(&login_lock);
}

uint32_t logins_begun(void)
{
    return atomic_load(&login_begun_count);
}

size_t login_overdue(uint64_t before_us, actor_id *out, size_t max)
{
    size_t count = 0;

    pthread_mutex_lock(&login_lock);
    /* Out of the list with them: each is reported once, and none stands in another's way. */
    while (count < max && login_first != NULL && login_first->since_us < before_us) {
        out[count++] = login_first->session;
        login_unlink(login_first);
    }
    pthread_mutex_unlock(&login_lock);
    return count;
}
