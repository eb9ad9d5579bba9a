#include "config/decode.h"

#include "config/decode_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

char *guc_canonical(struct arena *arena, const char *name)
{
    static const char *const spelt[] = {
        "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings",
        "application_name"};

    for (size_t i = 0; i < COUNT_OF(spelt); i++)
        if (strcasecmp(spelt[i], name) == 0)
            return arena_text(arena, spelt[i]);
    char *lower = arena_text(arena, name);
    for (char *p = lower; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p |= 32;
    return lower;
}

static int pair_compare(const void *a, const void *b)
{
    return strcmp(((const struct pair *)a)->name, ((const struct pair *)b)->name);
}

void pairs_sort(struct pair_list *list)
{
    if (list->count > 1)
        qsort(list->items, list->count, sizeof *list->items, pair_compare);
}

void section_set_defaults(struct arena *arena, enum setting_section section, void *base)
{
    for (size_t i = 0; i < setting_count; i++)
        if (settings[i].section == section)
            setting_set_default(arena, &settings[i], base);
}

static const char *path_join(struct decoder *d, const char *path, const char *name)
{
    return *path == '\0' ? name : arena_format(d->arena, "%s.%s", path, name);
}

/* Names that are not in the table, twice there, or there by their old name. */
static int decode_names(struct decoder *d, enum setting_section section, const struct tree *table,
                        const char *path)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct tree_entry *e = &table->entries[i];
        const struct setting_alias *alias = setting_find_alias(section, e->key);
        char advice[192];
        if (setting_find(section, e->key) == NULL || strlen(e->key) != e->key_len) {
            note(d->warnings, "%s:%d: unknown setting `%.80s` in [%s] %s", e->at.file, e->at.line,
                 e->key, *path == '\0' ? setting_section_name(section) : path,
                 setting_advice(section, e->key, advice, sizeof advice));
        } else if (alias != NULL && tree_get(table, alias->name) != NULL) {
            return decode_fail(d, e->at, path, "duplicate field `%s`", alias->name);
        } else if (alias != NULL && alias->deprecated) {
            note(d->warnings, "%s:%d: setting `%s` is deprecated, use `%s`", e->at.file, e->at.line,
                 alias->alias, alias->name);
        }
    }
    return 0;
}

static const struct tree *section_get(const struct setting *s, const struct tree *table)
{
    const struct tree *value = tree_get(table, s->name);

    for (size_t i = 0; value == NULL && i < setting_alias_count; i++)
        if (setting_aliases[i].section == s->section &&
            strcmp(setting_aliases[i].name, s->name) == 0)
            value = tree_get(table, setting_aliases[i].alias);
    return value;
}

/* All rows of the section but those that are sections themselves. */
static int decode_section(struct decoder *d, enum setting_section section, void *base,
                          const struct tree *table, const char *path, const char *kind)
{
    if (table->kind != TREE_TABLE) {
        char what[128];
        return decode_fail(d, table->at, path, "invalid type: %s, expected struct %s",
                           tree_describe(table, true, what, sizeof what), kind);
    }
    if (decode_names(d, section, table, path) != 0)
        return -1;
    for (size_t i = 0; i < setting_count; i++) {
        const struct setting *s = &settings[i];
        if (s->section != section)
            continue;
        const struct tree *value = section_get(s, table);
        if (value == NULL && (s->flags & SETTING_REQUIRED))
            return decode_fail(d, table->at, path, "missing field `%s`", s->name);
        if (value == NULL)
            setting_set_default(d->arena, s, base);
        else if (decode_setting(d, s, base, value, path_join(d, path, s->name)) != 0)
            return -1;
    }
    return 0;
}

static int entry_compare(const void *a, const void *b)
{
    return strcmp(((const struct tree_entry *)a)->key, ((const struct tree_entry *)b)->key);
}

static struct tree_entry *entries_sorted(struct decoder *d, const struct tree *table)
{
    struct tree_entry *sorted = arena_alloc(d->arena, (table->count + 1) * sizeof *sorted);

    if (table->count > 0)
        memcpy(sorted, table->entries, table->count * sizeof *sorted);
    if (table->kind == TREE_TABLE && table->count > 1)
        qsort(sorted, table->count, sizeof *sorted, entry_compare);
    return sorted;
}

/* Users are a list, or a table whose keys are numbers (the layout of old files). */
static int decode_users(struct decoder *d, struct pool_config *pool, const struct tree *users,
                        const char *path)
{
    if (users->kind != TREE_ARRAY && users->kind != TREE_TABLE) {
        char what[128];
        return decode_fail(d, users->at, path, "invalid type: %s, expected a sequence or a map",
                           tree_describe(users, true, what, sizeof what));
    }
    struct tree_entry *sorted = entries_sorted(d, users);
    pool->users = arena_alloc(d->arena, (users->count + 1) * sizeof *pool->users);
    pool->user_count = users->count;
    for (size_t i = 0; i < users->count; i++) {
        const char *key = sorted[i].key == NULL ? arena_format(d->arena, "%zu", i) : sorted[i].key;
        if (*key == '\0' || strspn(key, "0123456789") != strlen(key) || strlen(key) > 19 ||
            (sorted[i].key != NULL && strlen(key) != sorted[i].key_len))
            return decode_fail(
                d, sorted[i].at, path,
                "invalid user key '%.60s': expected numeric index or use array format", key);
        if (decode_section(d, SECTION_USER, &pool->users[i], sorted[i].value,
                           path_join(d, path, key), "User") != 0)
            return -1;
    }
    return 0;
}

static int decode_pool(struct decoder *d, struct pool_config *pool, const struct tree_entry *entry)
{
    const char *path = arena_format(d->arena, "pools.%s", entry->key);
    const struct tree *auth_query = tree_get(entry->value, "auth_query");
    const struct tree *users = tree_get(entry->value, "users");

    if (strlen(entry->key) != entry->key_len)
        return decode_fail(d, entry->at, path, "the pool's name contains a null byte");
    pool->name = arena_text(d->arena, entry->key);
    if (decode_section(d, SECTION_POOL, pool, entry->value, path, "Pool") != 0)
        return -1;
    if (users != NULL && decode_users(d, pool, users, path_join(d, path, "users")) != 0)
        return -1;
    if (auth_query == NULL)
        return 0;
    pool->auth_query = arena_alloc(d->arena, sizeof *pool->auth_query);
    return decode_section(d, SECTION_AUTH_QUERY, pool->auth_query, auth_query,
                          path_join(d, path, "auth_query"), "AuthQueryConfig");
}

static int decode_pools(struct decoder *d, struct config *out, const struct tree *pools)
{
    if (pools->kind != TREE_TABLE) {
        char what[128];
        return decode_fail(d, pools->at, "pools", "invalid type: %s, expected a map",
                           tree_describe(pools, true, what, sizeof what));
    }
    struct tree_entry *sorted = entries_sorted(d, pools);
    out->pools = arena_alloc(d->arena, (pools->count + 1) * sizeof *out->pools);
    out->pool_count = pools->count;
    for (size_t i = 0; i < pools->count; i++)
        if (decode_pool(d, &out->pools[i], &sorted[i]) != 0)
            return -1;
    return 0;
}

static int decode_optional(struct decoder *d, enum setting_section section, void *base, bool *given,
                           const struct tree *table, const char *path, const char *kind)
{
    *given = table != NULL;
    if (table == NULL) {
        section_set_defaults(d->arena, section, base);
        return 0;
    }
    return decode_section(d, section, base, table, path, kind);
}

int config_decode(struct decoder *d, struct config *out, const struct tree *root)
{
    const struct tree *include = tree_get(root, "include");
    const struct tree *path = tree_get(root, "path");
    struct include_config included = {0};
    bool given;

    if (decode_section(d, SECTION_TOP, out, root, "", "Config") != 0)
        return -1;
    if (path != NULL && path->kind != TREE_STRING)
        return decode_fail(d, path->at, "path", "invalid type: %s, expected a string",
                           tree_kind_name(path->kind));
    if (decode_section(d, SECTION_GENERAL, &out->general, tree_get(root, "general"), "general",
                       "General") != 0 ||
        decode_optional(d, SECTION_WEB, &out->web, &out->web.given,
                        section_get(setting_find(SECTION_TOP, "web"), root), "web", "Web") != 0 ||
        decode_optional(d, SECTION_TALOS, &out->talos, &out->talos.given, tree_get(root, "talos"),
                        "talos", "Talos") != 0 ||
        decode_optional(d, SECTION_INCLUDE, &included, &given, include, "include", "Include") != 0)
        return -1;
    return decode_pools(d, out, tree_get(root, "pools"));
}
