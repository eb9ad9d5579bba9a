#define LOG_MODULE "pg_doorman::pool"
#include "actors/auth_query.h"
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
static enum material_kind passed_through(enum secret_kind kind)
{
    switch (kind) {
    case SECRET_MD5: return MATERIAL_MD5;
    case SECRET_SCRAM: return MATERIAL_PENDING;
    case SECRET_PLAIN: return MATERIAL_PLAIN;
    case SECRET_EMPTY:
    case SECRET_JWT: break;
    }
    return MATERIAL_NONE;
}

/* Backends have a password of their own, or log in as somebody else. */
static bool passes_through(const struct user_config *user)
{
    return user->effective.server_password == NULL &&
           (user->server_username == NULL || strcmp(user->server_username, user->username) == 0);
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

/* With the lock. True when that is news for backends. */
static bool secret_set(struct pool_shared *shared, const char *secret, bool pass_through)
{
    bool same_secret = shared->secret != NULL && strcmp(shared->secret, secret) == 0;

    if (!same_secret)
        secret_replace(shared, secret);
    return material_set(shared, pass_through ? passed_through(shared->secret_kind) : MATERIAL_NONE,
                        same_secret);
}

void secret_look_up(struct pool_shared *shared, const char *secret)
{
    secret_set(shared, secret, true);
}

/* A reply that was kept for another text is forgotten. */
static void check_query_set(struct pool_shared *shared)
{
    struct config *config = app_config();
    const char *text = config->general.pooler_check_query;

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

void pool_follow(struct pool_shared *shared, const struct effective *effective)
{
    atomic_store(&shared->mode, (int)effective->mode);
    statement_cache_limit(&shared->statements, effective->prepared_cache_size);
    atomic_store(&shared->backend_limit,
                 (uint32_t)MIN(effective->server_prepared_cache_size, (uint64_t)UINT32_MAX));
    atomic_store(&shared->anonymous_limit,
                 (uint32_t)MIN(effective->client_anonymous_cache_size, (uint64_t)UINT32_MAX));
    check_query_set(shared);
}

static void configure_user(struct worker *w, struct pool_shared *shared,
                           const struct user_config *user)
{
    const char *secret = user->password == NULL ? "" : user->password;

    (void)w;
    pool_follow(shared, &user->effective);
    pthread_mutex_lock(&shared->lock);
    atomic_store(&shared->origin, ORIGIN_STATIC);
    bool changed = secret_set(shared, secret, passes_through(user));
    enum material_kind material = shared->material;
    pthread_mutex_unlock(&shared->lock);

    if (changed && material == MATERIAL_MD5)
        log_info("[%s@%s] static passthrough: MD5 pass-the-hash", shared->user, shared->database);
    if (changed && material == MATERIAL_PENDING)
        log_info("[%s@%s] static passthrough: SCRAM pending", shared->user, shared->database);
}

/* The one role of all that auth_query finds, if there is one and it is not a user as well. */
static void configure_shared(struct worker *w, struct pool_shared *shared,
                             const struct user_config *none)
{
    struct config *config = app_config();
    const struct effective *effective = pool_wanted(config, shared);

    (void)w;
    (void)none;
    if (effective != NULL)
        pool_follow(shared, effective);
    pthread_mutex_lock(&shared->lock);
    atomic_store(&shared->origin, ORIGIN_SHARED);
    pthread_mutex_unlock(&shared->lock);
    config_unref(config);
}

void pool_create(struct worker *w, struct pool_shared *shared)
{
    struct pool *p = pool_of(actor_new(&pool_type, w->index));
    actor_id id = actor_id_of(&p->actor);

    log_info("[%s@%s] creating pool", shared->user, shared->database);
    p->shared = shared;
    /* In this order: its first message must be the one with which it configures itself; and when
     * it ends, be it at once, it is the one that is known. */
    actor_prime(&p->actor);
    atomic_store(&shared->pool, id);
    actor_release(w, &p->actor);
}

static void ensure(struct worker *w, struct pool_shared *shared, const struct user_config *user)
{
    (void)user;
    pools_ensure(w, shared);
}

struct telling {
    struct worker *w;
    const struct config *config;
};

static bool is_written_down(const struct config *config, const struct pool_shared *shared)
{
    const struct pool_config *pool = config_pool(config, shared->database);
    const struct auth_query_config *found = pool == NULL ? NULL : pool->auth_query;

    return pool != NULL && (config_user(pool, shared->user) != NULL ||
                            (found != NULL && found->server_user != NULL &&
                             strcmp(found->server_user, shared->user) == 0));
}

/* Every pool that lives, wanted or not, looks up for itself what has become of it. */
static void tell_to_configure(void *context, struct pool_shared *shared)
{
    const struct telling *t = context;
    actor_id pool = atomic_load(&shared->pool);

    pthread_mutex_lock(&shared->lock);
    int origin = atomic_load(&shared->origin);
    if (origin != ORIGIN_LOOKED_UP && !is_written_down(t->config, shared))
        atomic_store(&shared->origin, ORIGIN_NONE);
    pthread_mutex_unlock(&shared->lock);
    if (pool != 0)
        actor_tell_kind(t->w, pool, MSG_POOL_CONFIGURE);
}

typedef void visit_user(struct worker *w, struct pool_shared *shared,
                        const struct user_config *user);

static void shared_user(struct worker *w, const struct pool_config *pool, visit_user *visit)
{
    const char *name = pool->auth_query == NULL ? NULL : pool->auth_query->server_user;

    if (name != NULL && config_user(pool, name) == NULL)
        visit(w, directory_add(pool->name, name), NULL);
}

/* Calls visit for each user of the configuration, and `shared` for each server_user. */
static void each_user(struct worker *w, const struct config *config, visit_user *visit,
                      visit_user *shared)
{
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct pool_config *pool = &config->pools[i];

        for (size_t j = 0; j < pool->user_count; j++)
            visit(w, directory_add(pool->name, pool->users[j].username), &pool->users[j]);
        shared_user(w, pool, shared);
    }
}

void pools_configure(struct worker *w, struct config *config)
{
    struct telling telling = {w, config};

    /* Secrets first: a pool may open connections as soon as it knows its settings. */
    each_user(w, config, configure_user, configure_shared);
    coordinators_configure(w, config);
    auth_queries_configure(w, config);
    directory_each(tell_to_configure, &telling);
    each_user(w, config, ensure, ensure);
    atomic_fetch_add(&app.directory_generation, 1);
}
