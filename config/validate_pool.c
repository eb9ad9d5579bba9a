/* validate_pool.c: the checks of one pool, its users and its auth_query. */
#include "config/validate.h"

#include <stdlib.h>

static const struct tree *pool_node(const struct validator *v, const struct pool_config *pool,
                                    const char *key)
{
    return node_of(v, "pools", pool->name, key);
}

static const char *pool_scope(const struct validator *v, const struct pool_config *pool)
{
    return arena_format(v->arena, "pools.%s: ", pool->name);
}

const struct tree *user_node(const struct validator *v, const struct pool_config *pool,
                             const struct user_config *user, const char *key)
{
    const struct tree *users = pool_node(v, pool, "users");

    for (size_t i = 0; i < users->count; i++) {
        const struct tree *node = users->entries[i].value;
        const struct tree *name = tree_get(node, "username");
        const struct tree *value = tree_get(node, key);
        if (name != NULL && name->kind == TREE_STRING && strcmp(name->text, user->username) == 0)
            return value != NULL ? value : node;
    }
    return users;
}

static int validate_minimums(struct validator *v, const struct pool_config *pool)
{
    uint64_t sum = 0;

    if (pool->max_db_connections == SETTING_UNSET || pool->max_db_connections == 0)
        return 0;
    for (size_t i = 0; i < pool->user_count; i++)
        if (pool->users[i].min_pool_size != SETTING_UNSET)
            sum += pool->users[i].min_pool_size;
    if (sum <= pool->max_db_connections)
        return 0;
    return refuse(v, pool_node(v, pool, "max_db_connections"),
                  "%ssum of min_pool_size (%llu) exceeds max_db_connections (%llu); not all "
                  "minimums can be satisfied simultaneously",
                  pool_scope(v, pool), (unsigned long long)sum,
                  (unsigned long long)pool->max_db_connections);
}

static int user_compare(const void *a, const void *b)
{
    return strcmp((*(const struct user_config *const *)a)->username,
                  (*(const struct user_config *const *)b)->username);
}

static int validate_unique_users(struct validator *v, const struct pool_config *pool)
{
    size_t count = pool->user_count;
    const struct user_config **sorted = arena_alloc(v->arena, (count + 1) * sizeof *sorted);

    for (size_t i = 0; i < count; i++)
        sorted[i] = &pool->users[i];
    if (count > 1)
        qsort(sorted, count, sizeof *sorted, user_compare);
    for (size_t i = 1; i < count; i++)
        if (strcmp(sorted[i - 1]->username, sorted[i]->username) == 0)
            return refuse(v, pool_node(v, pool, "users"),
                          "%sduplicate username '%.100s' in pool users", pool_scope(v, pool),
                          sorted[i]->username);
    return 0;
}

static int validate_user(struct validator *v, const struct pool_config *pool,
                         const struct user_config *u)
{
    static const char jwt[] = "jwt-pkey-fpath:";
    const char *scope = pool_scope(v, pool);

    if (strncmp(u->password, jwt, sizeof jwt - 1) == 0 &&
        validate_public_key(v, user_node(v, pool, u, "password"), u->password + sizeof jwt - 1) !=
            0)
        return -1;
    if (u->server_password != NULL && *u->server_password != '\0' && u->server_username == NULL)
        return refuse(v, user_node(v, pool, u, "server_password"),
                      "%sserver_password requires server_username to be set", scope);
    if (validate_bounds(v, setting_find(SECTION_USER, "pool_size"), u,
                        user_node(v, pool, u, "pool_size"),
                        arena_format(v->arena, "%suser '%s': ", scope, u->username)) != 0)
        return -1;
    if (u->min_pool_size != SETTING_UNSET && u->min_pool_size > u->pool_size)
        return refuse(v, user_node(v, pool, u, "min_pool_size"),
                      "%smin_pool_size of %llu cannot be larger than pool_size of %llu", scope,
                      (unsigned long long)u->min_pool_size, (unsigned long long)u->pool_size);
    return 0;
}

static int validate_fallback(struct validator *v, const struct pool_config *pool)
{
    static const char *const timings[] = {"fallback_cooldown", "patroni_api_timeout",
                                          "fallback_connect_timeout", "fallback_lifetime"};
    const struct string_list *urls = &pool->patroni_api_urls;
    const struct tree *node = pool_node(v, pool, "patroni_api_urls");
    const char *scope = pool_scope(v, pool);

    if (urls->items != NULL && urls->count == 0)
        return refuse(v, node,
                      "%spatroni_api_urls cannot be an empty list; remove the setting to disable "
                      "Patroni-assisted fallback",
                      scope);
    if (validate_urls(v, node, scope, urls) != 0)
        return -1;
    for (size_t i = 0; i < COUNT_OF(timings); i++)
        if (validate_bounds(v, setting_find(SECTION_POOL, timings[i]), pool,
                            pool_node(v, pool, timings[i]), scope) != 0)
            return -1;
    return 0;
}

static const struct tree *auth_query_node(const struct validator *v, const struct pool_config *pool,
                                          const char *key)
{
    const struct tree *table = pool_node(v, pool, "auth_query");
    const struct tree *value = tree_get(table, key);

    return value != NULL ? value : table;
}

static int validate_auth_query(struct validator *v, const struct pool_config *pool)
{
    static const char *const bounded[] = {"workers", "pool_size"};
    const struct auth_query_config *a = pool->auth_query;
    const char *scope = pool_scope(v, pool);

    if (a == NULL)
        return 0;
    if (*a->query == '\0')
        return refuse(v, auth_query_node(v, pool, "query"), "%sauth_query.query cannot be empty",
                      scope);
    if (*a->user == '\0')
        return refuse(v, auth_query_node(v, pool, "user"), "%sauth_query.user cannot be empty",
                      scope);
    if (a->server_password != NULL && *a->server_password != '\0' && a->server_user == NULL)
        return refuse(v, auth_query_node(v, pool, "server_password"),
                      "%sauth_query: server_password requires server_user to be set", scope);
    for (size_t i = 0; i < COUNT_OF(bounded); i++)
        if (validate_bounds(v, setting_find(SECTION_AUTH_QUERY, bounded[i]), a,
                            auth_query_node(v, pool, bounded[i]),
                            arena_format(v->arena, "%sauth_query.", scope)) != 0)
            return -1;
    if (a->min_pool_size > a->pool_size)
        return refuse(v, auth_query_node(v, pool, "min_pool_size"),
                      "%sauth_query: min_pool_size must be <= pool_size", scope);
    return 0;
}

static int validate_cleanup(struct validator *v, const struct pool_config *pool)
{
    if (strcmp(pool->cleanup_check, "trust") == 0 || strcmp(pool->cleanup_check, "verify") == 0)
        return 0;
    return refuse(v, pool_node(v, pool, "cleanup_check"),
                  "%scleanup_check '%.60s' is unknown; must be trust or verify",
                  pool_scope(v, pool), pool->cleanup_check);
}

int validate_pool(struct validator *v, const struct pool_config *pool)
{
    if (validate_pool_startup_parameters(v, pool) != 0 ||
        validate_bounds(v, setting_find(SECTION_POOL, "scaling_warm_pool_ratio"), pool,
                        pool_node(v, pool, "scaling_warm_pool_ratio"), pool_scope(v, pool)) != 0 ||
        validate_minimums(v, pool) != 0 || validate_unique_users(v, pool) != 0)
        return -1;
    for (size_t i = 0; i < pool->user_count; i++)
        if (validate_user(v, pool, &pool->users[i]) != 0)
            return -1;
    if (validate_fallback(v, pool) != 0 || validate_cleanup(v, pool) != 0)
        return -1;
    return validate_auth_query(v, pool);
}
