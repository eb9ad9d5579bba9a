/* validate_startup.c: what may be asked of a backend in its StartupMessage. */
#include "config/effective.h"
#include "config/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    STARTUP_BYTES_MAX = 10000, /* PostgreSQL's cap of the whole packet */
    STARTUP_BUDGET = STARTUP_BYTES_MAX - 512
};

static bool name_is_reserved(const char *name)
{
    static const char *const reserved[] = {"user",    "database", "replication",
                                           "options", "role",     "session_authorization"};

    for (size_t i = 0; i < COUNT_OF(reserved); i++)
        if (strcasecmp(name, reserved[i]) == 0)
            return true;
    return false;
}

static bool name_is_guc(const char *name)
{
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789.";

    return strchr(first, name[0]) != NULL && strspn(name, rest) == strlen(name);
}

static int check_entry(struct validator *v, const char *scope, const struct tree_entry *e)
{
    const char *name = e->key;
    const struct tree *at = e->value;

    if (e->key_len == 0)
        return refuse(v, at, "%s: empty key", scope);
    if (name_is_reserved(name))
        return refuse(v, at, "%s: '%s' is reserved and managed by pg_doorman", scope, name);
    if (strncasecmp(name, "_pq_.", 5) == 0)
        return refuse(v, at, "%s: '%s' uses the reserved '_pq_.' prefix", scope, name);
    if (!name_is_guc(name) || strlen(name) != e->key_len)
        return refuse(v, at,
                      "%s: '%.100s' is not a valid GUC name (expected [A-Za-z_][A-Za-z0-9_.]*)",
                      scope, name);
    if (strlen(e->value->text) != e->value->len)
        return refuse(v, at, "%s: value for '%s' contains a null byte", scope, name);
    return 0;
}

static int entry_compare(const void *a, const void *b)
{
    return strcmp((*(const struct tree_entry *const *)a)->key,
                  (*(const struct tree_entry *const *)b)->key);
}

static size_t pairs_bytes(const struct pair_list *pairs)
{
    size_t bytes = 0;

    for (size_t i = 0; i < pairs->count; i++)
        bytes += strlen(pairs->items[i].name) + 1 + strlen(pairs->items[i].value) + 1;
    return bytes;
}

static int check_size(struct validator *v, const char *scope, const struct tree *node,
                      const struct pair_list *pairs)
{
    size_t bytes = pairs_bytes(pairs);

    if (bytes <= STARTUP_BUDGET)
        return 0;
    return refuse(v, node,
                  "%s: serialized size %zu bytes exceeds operator budget %d (PostgreSQL takes %d "
                  "bytes of startup packet in all)",
                  scope, bytes, STARTUP_BUDGET, STARTUP_BYTES_MAX);
}

/* `pairs` is the decoded form of `node`. */
static int check_map(struct validator *v, const char *scope, const struct tree *node,
                     const struct pair_list *pairs)
{
    size_t count = node == NULL ? 0 : node->count;
    const struct tree_entry **sorted = arena_alloc(v->arena, (count + 1) * sizeof *sorted);

    for (size_t i = 0; i < count; i++)
        sorted[i] = &node->entries[i];
    if (count > 1)
        qsort(sorted, count, sizeof *sorted, entry_compare);
    for (size_t i = 0; i < count; i++) {
        if (check_entry(v, scope, sorted[i]) != 0)
            return -1;
        for (size_t j = 0; j < i; j++)
            if (strcasecmp(sorted[i]->key, sorted[j]->key) == 0)
                return refuse(
                    v, sorted[i]->value, "%s: '%s' and '%s' both refer to PG GUC '%s'; keep one",
                    scope, sorted[j]->key, sorted[i]->key, guc_canonical(v->arena, sorted[i]->key));
    }
    return check_size(v, scope, node, pairs);
}

static const char *pairs_get(const struct pair_list *pairs, const char *name)
{
    for (size_t i = 0; i < pairs->count; i++)
        if (strcmp(pairs->items[i].name, name) == 0)
            return pairs->items[i].value;
    return NULL;
}

static size_t message_bytes(const struct pool_config *pool, const struct pair_list *merged,
                            const char *user)
{
    const char *database = pool->server_database != NULL ? pool->server_database : pool->name;
    const char *mapped = pairs_get(merged, "application_name");
    const char *configured = pool->application_name != NULL ? pool->application_name : "pg_doorman";
    size_t bytes = 8 + sizeof "user" + strlen(user) + 1 + sizeof "database" + strlen(database) + 1 +
                   pairs_bytes(merged) + 1;

    if (mapped == NULL)
        bytes += sizeof "application_name" + strlen(configured) + 1;
    return bytes;
}

static int check_message(struct validator *v, const struct pool_config *pool,
                         const struct pair_list *merged, const char *what, const char *user)
{
    size_t bytes = message_bytes(pool, merged, user);

    if (bytes <= STARTUP_BYTES_MAX)
        return 0;
    return refuse(v, node_of(v, "pools", pool->name, "startup_parameters"),
                  "merged general + pools.%s.startup_parameters: full StartupMessage for %s '%s' "
                  "is %zu bytes, exceeding the PG cap of %d bytes",
                  pool->name, what, user, bytes, STARTUP_BYTES_MAX);
}

static int check_merged(struct validator *v, const struct pool_config *pool)
{
    struct pair_list merged = pairs_merge(v->arena, &v->config->general.startup_parameters,
                                          &pool->startup_parameters);
    const char *scope = arena_format(v->arena, "merged general + pools.%s.startup_parameters",
                                     pool->name);

    if (check_size(v, scope, node_of(v, "pools", pool->name, "startup_parameters"), &merged) != 0)
        return -1;
    for (size_t i = 0; i < pool->user_count; i++) {
        const struct user_config *u = &pool->users[i];
        if (check_message(v, pool, &merged, "user",
                          u->server_username != NULL ? u->server_username : u->username) != 0)
            return -1;
    }
    if (pool->auth_query == NULL || pool->auth_query->server_user == NULL)
        return 0;
    return check_message(v, pool, &merged, "auth_query server_user", pool->auth_query->server_user);
}

int validate_startup_parameters(struct validator *v)
{
    const struct tree *node = tree_get(tree_get(v->root, "general"), "startup_parameters");

    if (check_map(v, "general.startup_parameters", node, &v->config->general.startup_parameters) !=
        0)
        return -1;
    for (size_t i = 0; i < v->config->pool_count; i++)
        if (check_merged(v, &v->config->pools[i]) != 0)
            return -1;
    return 0;
}

int validate_pool_startup_parameters(struct validator *v, const struct pool_config *pool)
{
    const struct tree *table = tree_get(tree_get(v->root, "pools"), pool->name);

    return check_map(v, "pool.startup_parameters", tree_get(table, "startup_parameters"),
                     &pool->startup_parameters);
}
