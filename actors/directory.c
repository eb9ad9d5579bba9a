#define LOG_MODULE "pg_doorman::pool"
#include "actors/app.h"

#include <stdlib.h>

enum { DIRECTORY_CHAINS = 1024 }; /* power of two */

static pthread_rwlock_t directory_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct pool_shared *chains[DIRECTORY_CHAINS];
static size_t directory_count;

/* FNV-1a; the end of the first name counts, so that "ab","c" and "a","bc" differ. */
static struct pool_shared **chain_of(const char *database, const char *user)
{
    uint64_t hash = 14695981039346656037u;

    for (const char *at = database; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 1099511628211u;
    hash *= 1099511628211u;
    for (const char *at = user; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 1099511628211u;
    return &chains[(hash ^ hash >> 32) & (DIRECTORY_CHAINS - 1)];
}

/* With the lock, for reading at least. */
static struct pool_shared *find(const char *database, const char *user)
{
    struct pool_shared *shared = *chain_of(database, user);

    while (shared != NULL &&
           (strcmp(shared->user, user) != 0 || strcmp(shared->database, database) != 0))
        shared = shared->next;
    return shared;
}

struct pool_shared *directory_find(const char *database, const char *user)
{
    pthread_rwlock_rdlock(&directory_lock);
    struct pool_shared *shared = find(database, user);
    pthread_rwlock_unlock(&directory_lock);
    return shared;
}

static struct pool_shared *shared_new(const char *database, const char *user)
{
    struct pool_shared *shared = aligned_alloc(CACHE_LINE, (sizeof *shared + CACHE_LINE - 1) &
                                                               ~(size_t)(CACHE_LINE - 1));
    size_t counters_bytes = runtime_workers() * sizeof *shared->counters;

    INVARIANT(shared != NULL);
    *shared = (struct pool_shared){
        .database = strdup(database),
        .user = strdup(user),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .counters = aligned_alloc(CACHE_LINE, counters_bytes),
    };
    INVARIANT(shared->database != NULL && shared->user != NULL && shared->counters != NULL);
    memset(shared->counters, 0, counters_bytes);
    for (int i = 0; i < TIME_KINDS; i++)
        histogram_init(&shared->times[i], MAX(runtime_workers(), 1u));
    statement_cache_init(&shared->statements);
    return shared;
}

struct pool_shared *directory_add(const char *database, const char *user)
{
    pthread_rwlock_wrlock(&directory_lock);
    struct pool_shared *shared = find(database, user);
    if (shared == NULL) {
        struct pool_shared **chain = chain_of(database, user);

        shared = shared_new(database, user);
        shared->next = *chain;
        *chain = shared;
        directory_count++;
    }
    pthread_rwlock_unlock(&directory_lock);
    return shared;
}

static int by_name(const void *a, const void *b)
{
    const struct pool_shared *x = *(struct pool_shared *const *)a;
    const struct pool_shared *y = *(struct pool_shared *const *)b;
    int order = strcmp(x->database, y->database);

    return order != 0 ? order : strcmp(x->user, y->user);
}

/* Entries are never freed, so the visits need no lock. */
void directory_each(void (*visit)(void *context, struct pool_shared *shared), void *context)
{
    pthread_rwlock_rdlock(&directory_lock);
    size_t count = 0;
    struct pool_shared **all = calloc(directory_count + 1, sizeof(struct pool_shared *));
    INVARIANT(all != NULL);
    for (size_t i = 0; i < DIRECTORY_CHAINS; i++) {
        for (struct pool_shared *at = chains[i]; at != NULL; at = at->next)
            all[count++] = at;
    }
    pthread_rwlock_unlock(&directory_lock);

    qsort(all, count, sizeof(struct pool_shared *), by_name);
    for (size_t i = 0; i < count; i++)
        visit(context, all[i]);
    free(all);
}

static void outdate(void *context, struct pool_shared *shared)
{
    if (strcmp(shared->database, context) == 0)
        atomic_fetch_add(&shared->ddl_epoch, 1);
}

void directory_schema_changed(const char *database)
{
    directory_each(outdate, (void *)(uintptr_t)database);
}
