/* validate.c: the checks of [general], [web] and [talos]. */
#include "config/validate.h"

#include "auth/hba.h"
#include "config/tls_files.h"
#include "config/value.h"

#include <stdarg.h>
#include <stdio.h>

int refuse(struct validator *v, const struct tree *node, const char *format, ...)
{
    char text[440];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (node == NULL)
        return fail(v->why, "Configuration error: %s", text);
    return fail(v->why, "Configuration error: %s (%s:%d)", text, node->at.file, node->at.line);
}

const struct tree *node_of(const struct validator *v, const char *a, const char *b, const char *c)
{
    const char *names[] = {a, b, c};
    const struct tree *node = v->root;

    for (size_t i = 0; i < COUNT_OF(names) && names[i] != NULL; i++) {
        const struct tree *child = tree_get(node, names[i]);
        if (child == NULL && strcmp(names[i], "web") == 0)
            child = tree_get(node, "prometheus");
        if (child == NULL)
            break;
        node = child;
    }
    return node == v->root ? NULL : node;
}

const char *node_place(const struct validator *v, const struct tree *node)
{
    return node == NULL ? "" : arena_format(v->arena, "%s:%d: ", node->at.file, node->at.line);
}

int validate_public_key(struct validator *v, const struct tree *node, const char *path)
{
    struct failure reason;

    if (public_key_check(path, &reason) == 0)
        return 0;
    if (node == NULL)
        return fail(v->why, "JWT public key error: %s", reason.text);
    return fail(v->why, "JWT public key error: %s (%s:%d)", reason.text, node->at.file,
                node->at.line);
}

int validate_urls(struct validator *v, const struct tree *node, const char *scope,
                  const struct string_list *urls)
{
    for (size_t i = 0; i < urls->count; i++)
        if (strncmp(urls->items[i], "http://", 7) != 0 &&
            strncmp(urls->items[i], "https://", 8) != 0)
            return refuse(v, node,
                          "%spatroni_api_urls: invalid URL '%.120s'; must start with http:// or "
                          "https://",
                          scope, urls->items[i]);
    return 0;
}

int validate_bounds(struct validator *v, const struct setting *s, const void *base,
                    const struct tree *node, const char *scope)
{
    if (s->bounds == NULL)
        return 0;

    uint64_t value = *(uint64_t *)setting_at(s, base);
    if (value == SETTING_UNSET || (value >= s->least && (s->most == 0 || value <= s->most)))
        return 0;
    return refuse(v, node, "%s%s %s", scope, s->name, s->bounds);
}

static int validate_general_bounds(struct validator *v, const char *name)
{
    return validate_bounds(v, setting_find(SECTION_GENERAL, name), &v->config->general,
                           node_of(v, "general", name, NULL), "general.");
}

static int validate_talos(struct validator *v)
{
    const struct string_list *keys = &v->config->talos.keys;

    for (size_t i = 0; i < keys->count; i++)
        if (validate_public_key(v, node_of(v, "talos", "keys", NULL), keys->items[i]) != 0)
            return -1;
    return 0;
}

static int validate_rate_limit(struct validator *v)
{
    uint64_t limit = v->config->general.tls_rate_limit_per_second;
    const struct tree *node = node_of(v, "general", "tls_rate_limit_per_second", NULL);

    if (limit > 0 && limit < 100)
        return refuse(v, node, "tls rate limit should be > 100");
    if (limit % 100 != 0)
        return refuse(v, node, "tls rate limit should be multiple 100");
    return 0;
}

static int validate_socket_mode(struct validator *v)
{
    struct general_config *g = &v->config->general;
    struct failure reason;

    if (file_mode_parse(&g->unix_socket_mode_bits, g->unix_socket_mode, &reason) == 0)
        return 0;
    return refuse(v, node_of(v, "general", "unix_socket_mode", NULL), "general.unix_socket_mode %s",
                  reason.text);
}

/* A setting that is one of two words. */
static int validate_word(struct validator *v, const char *name, const char *one, const char *other)
{
    const char *given = *(char **)setting_at(setting_find(SECTION_GENERAL, name),
                                             &v->config->general);

    if (strcmp(given, one) == 0 || strcmp(given, other) == 0)
        return 0;
    return refuse(v, node_of(v, "general", name, NULL),
                  "general.%s '%.60s' is unknown; must be %s or %s", name, given, one, other);
}

static int validate_upgrade(struct validator *v)
{
    if (validate_word(v, "upgrade_mode", "transfer", "drain") != 0 ||
        validate_word(v, "upgrade_incomplete", "drain", "abort") != 0 ||
        validate_word(v, "upgrade_inherited_accounting", "extra", "strict") != 0 ||
        validate_general_bounds(v, "upgrade_ready_timeout") != 0)
        return -1;
    return validate_general_bounds(v, "upgrade_freeze_limit");
}

static int validate_hba(struct validator *v)
{
    struct general_config *g = &v->config->general;
    struct failure reason;
    bool rules = g->pg_hba != NULL;

    if (rules && g->hba.count > 0)
        return refuse(v, node_of(v, "general", "pg_hba", NULL),
                      "general.hba and general.pg_hba cannot be specified at the same time");

    int result = rules ? hba_parse(&v->config->hba, g->pg_hba, g->pg_hba_strict, &reason)
                       : hba_from_list(&v->config->hba, (const char *const *)g->hba.items,
                                       g->hba.count, &reason);
    if (result == 0)
        return 0;
    return refuse(v, node_of(v, "general", rules ? "pg_hba" : "hba", NULL), "%s", reason.text);
}

static int validate_statement_caches(struct validator *v)
{
    const struct general_config *g = &v->config->general;

    if (g->prepared_statements && g->prepared_statements_cache_size == 0)
        return refuse(v, node_of(v, "general", "prepared_statements_cache_size", NULL),
                      "The value of prepared_statements_cache should be greater than 0 if "
                      "prepared_statements are enabled");
    return validate_general_bounds(v, "query_interner_gc_interval_seconds");
}

static int validate_general_urls(struct validator *v)
{
    const struct string_list *urls = &v->config->general.patroni_api_urls;
    const struct tree *node = node_of(v, "general", "patroni_api_urls", NULL);

    if (urls->items != NULL && urls->count == 0)
        return refuse(v, node, "general.patroni_api_urls cannot be an empty list");
    return validate_urls(v, node, "general.", urls);
}

static bool uses_general_fallback(const struct config *c, const struct setting *own)
{
    bool everywhere = c->general.patroni_api_urls.count > 0;

    for (size_t i = 0; i < c->pool_count; i++)
        if ((everywhere || c->pools[i].patroni_api_urls.count > 0) &&
            *(uint64_t *)setting_at(own, &c->pools[i]) == SETTING_UNSET)
            return true;
    return everywhere && c->pool_count == 0;
}

/* As in pools; but a zero that no pool makes use of only deserves a warning. */
static int validate_general_fallback(struct validator *v)
{
    static const char *const names[] = {"fallback_cooldown", "patroni_api_timeout",
                                        "fallback_connect_timeout", "fallback_lifetime"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct setting *s = setting_find(SECTION_GENERAL, names[i]);

        if (*(uint64_t *)setting_at(s, &v->config->general) == 0 &&
            uses_general_fallback(v->config, setting_find(SECTION_POOL, names[i])))
            return refuse(v, node_of(v, "general", names[i], NULL), "general.%s must be > 0",
                          names[i]);
    }
    return 0;
}

/* What 3.10 lets pass and then stumbles over. */
static int validate_additions(struct validator *v)
{
    const struct general_config *g = &v->config->general;
    const struct web_config *w = &v->config->web;

    for (size_t i = 0; i < setting_count; i++)
        if (settings[i].section == SECTION_GENERAL &&
            validate_general_bounds(v, settings[i].name) != 0)
            return -1;
    if (strcmp(g->io_engine, "auto") != 0 && strcmp(g->io_engine, "io_uring") != 0 &&
        strcmp(g->io_engine, "epoll") != 0)
        return refuse(v, node_of(v, "general", "io_engine", NULL),
                      "general.io_engine '%.60s' is unknown; must be auto, io_uring or epoll",
                      g->io_engine);
    if (w->enabled && !address_valid(w->host))
        return refuse(v, node_of(v, "web", "host", NULL), "web.host '%.100s' is not an IP address",
                      w->host);
    return 0;
}

int config_validate(struct validator *v)
{
    if (validate_talos(v) != 0 || validate_startup_parameters(v) != 0 ||
        validate_rate_limit(v) != 0 || validate_general_bounds(v, "scaling_warm_pool_ratio") != 0 ||
        validate_general_bounds(v, "scaling_max_parallel_creates") != 0 ||
        validate_socket_mode(v) != 0 || validate_upgrade(v) != 0 || validate_hba(v) != 0 ||
        validate_statement_caches(v) != 0 || validate_client_tls(v) != 0 ||
        validate_server_tls(v) != 0 || validate_general_urls(v) != 0 ||
        validate_general_fallback(v) != 0 || validate_additions(v) != 0)
        return -1;
    for (size_t i = 0; i < v->config->pool_count; i++)
        if (validate_pool(v, &v->config->pools[i]) != 0)
            return -1;
    config_warn(v);
    return 0;
}
