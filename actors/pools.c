#define LOG_MODULE "pg_doorman::pool"
#include "actors/pool.h"

#include "runtime/log.h"

#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>

static void secret_replace(struct pool_shared *shared, const char *secret)
{
    if (shared->secret != NULL) {
        OPENSSL_cleanse(shared->secret, strlen(shared->secret));
        free(shared->secret);
    }
    shared->secret = strdup(secret);
    INVARIANT(shared->secret != NULL);
    shared->secret_kind = secret[0] == '\0' ? SECRET_EMPTY : secret_kind(secret);
    OPENSSL_cleanse(&shared->verifier, sizeof shared->verifier);
    shared->verifier_known = shared->secret_kind == SECRET_SCRAM &&
                             scram_verifier_parse(&shared->verifier, secret) == 0;
}

/* What backends can prove themselves with, when the client's secret is all there is. */
static enum material_kind passed_through(const struct user_config *user, enum secret_kind kind)
{
    if (user->effective.server_password != NULL)
        return MATERIAL_NONE; /* backends have a password of their own */
    if (user->server_username != NULL && strcmp(user->server_username, user->username) != 0)
        return MATERIAL_NONE;
    switch (kind) {
    case SECRET_MD5: return MATERIAL_MD5;
    case SECRET_SCRAM: return MATERIAL_PENDING;
    case SECRET_PLAIN: return MATERIAL_PLAIN;
    case SECRET_EMPTY:
    case SECRET_JWT: break;
    }
    return MATERIAL_NONE;
}

/* With the lock. True when the material is another than before. */
static bool material_set(struct pool_shared *shared, enum material_kind material, bool same_secret)
{
    /* Keys that a client has proved stay good as long as the secret does. */
    if (material == MATERIAL_PENDING && shared->material == MATERIAL_KEYS && same_secret)
        return false;
    bool changed = material != shared->material || !same_secret;
    OPENSSL_cleanse(shared->client_key, sizeof shared->client_key);
    OPENSSL_cleanse(shared->server_key, sizeof shared->server_key);
    OPENSSL_cleanse(shared->md5, sizeof shared->md5);
    shared->material = material;
    if (material == MATERIAL_MD5)
        snprintf(shared->md5, sizeof shared->md5, "%s", shared->secret);
    return changed;
}

static void shared_configure(struct worker *w, struct pool_shared *shared,
                             const struct user_config *user)
{
    const char *secret = user->password == NULL ? "" : user->password;

    (void)w;
    atomic_store(&shared->mode, (int)user->effective.mode);
    statement_cache_limit(&shared->statements, user->effective.prepared_cache_size);
    atomic_store(&shared->backend_limit,
                 (uint32_t)MIN(user->effective.server_prepared_cache_size, (uint64_t)UINT32_MAX));
    atomic_store(&shared->anonymous_limit,
                 (uint32_t)MIN(user->effective.client_anonymous_cache_size, (uint64_t)UINT32_MAX));
    pthread_mutex_lock(&shared->lock);
    bool same_secret = shared->secret != NULL && strcmp(shared->secret, secret) == 0;
    if (!same_secret)
        secret_replace(shared, secret);
    enum material_kind material = passed_through(user, shared->secret_kind);
    bool changed = material_set(shared, material, same_secret);
    pthread_mutex_unlock(&shared->lock);

    if (changed && material == MATERIAL_MD5)
        log_info("[%s@%s] static passthrough: MD5 pass-the-hash", shared->user, shared->database);
    if (changed && material == MATERIAL_PENDING)
        log_info("[%s@%s] static passthrough: SCRAM pending", shared->user, shared->database);
}

/* A reply that was kept for another text is forgotten. */
static void check_query_set(struct worker *w, struct pool_shared *shared,
                            const struct user_config *user)
{
    struct config *config = app_config();
    const char *text = config->general.pooler_check_query;

    (void)w;
    (void)user;
    pthread_mutex_lock(&shared->lock);
    if (shared->check_query == NULL || strcmp(shared->check_query, text) != 0) {
        free(shared->check_query);
        free(shared->check_reply);
        shared->check_query = strdup(text);
        INVARIANT(shared->check_query != NULL);
        shared->check_reply = NULL;
        atomic_store(&shared->check_len, (uint32_t)strlen(text) + 1);
    }
    pthread_mutex_unlock(&shared->lock);
    config_unref(config);
}

static void pool_ensure(struct worker *w, struct pool_shared *shared,
                        const struct user_config *user)
{
    (void)user;
    if (atomic_load(&shared->pool) != 0)
        return;
    struct pool *p = pool_of(actor_new(&pool_type, w->index));
    actor_id id = actor_id_of(&p->actor);
    log_info("[%s@%s] creating pool", shared->user, shared->database);
    p->shared = shared;
    /* In this order: its first message must be the one with which it configures itself. */
    actor_launch(w, &p->actor);
    atomic_store(&shared->pool, id);
}

/* Every pool that lives, wanted or not, looks up for itself what has become of it. */
static void tell_to_configure(void *context, struct pool_shared *shared)
{
    actor_id pool = atomic_load(&shared->pool);

    if (pool != 0)
        actor_tell_kind(context, pool, MSG_POOL_CONFIGURE);
}

/* Calls visit for each user of the configuration. */
static void each_user(struct worker *w, const struct config *config,
                      void (*visit)(struct worker *w, struct pool_shared *shared,
                                    const struct user_config *user))
{
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct pool_config *pool = &config->pools[i];

        for (size_t j = 0; j < pool->user_count; j++)
            visit(w, directory_add(pool->name, pool->users[j].username), &pool->users[j]);
    }
}

void pools_configure(struct worker *w, struct config *config)
{
    /* Secrets first: a pool may open connections as soon as it knows its settings. */
    each_user(w, config, shared_configure);
    each_user(w, config, check_query_set);
    coordinators_configure(w, config);
    directory_each(tell_to_configure, w);
    each_user(w, config, pool_ensure);
    atomic_fetch_add(&app.directory_generation, 1);
}
