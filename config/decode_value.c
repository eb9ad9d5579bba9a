#include "config/decode_value.h"

#include "config/value.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int decode_fail(struct decoder *d, struct origin at, const char *path, const char *format, ...)
{
    char reason[384];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return fail(d->why, "Could not merge config: %s (%s%s%s:%d)", reason, path,
                *path == '\0' ? "" : ", ", at.file, at.line);
}

static int decode_mismatch(struct decoder *d, const struct setting *s, const struct tree *node,
                           const char *path, const char *expected)
{
    char what[128];
    bool secret = (s->flags & SETTING_SECRET) != 0;

    return decode_fail(d, node->at, path, "invalid type: %s, expected %s",
                       tree_describe(node, secret, what, sizeof what), expected);
}

static int decode_text(struct decoder *d, const struct setting *s, const struct tree *node,
                       const char *path, char **out)
{
    if (node->kind != TREE_STRING)
        return decode_mismatch(d, s, node, path, "a string");
    if (strlen(node->text) != node->len)
        return decode_fail(d, node->at, path, "the value contains a null byte");
    *out = arena_copy(d->arena, node->text, node->len);
    return 0;
}

static uint64_t type_most(enum setting_type type)
{
    return type == SETTING_U16 ? UINT16_MAX : type == SETTING_U32 ? UINT32_MAX : INT64_MAX;
}

static int decode_number(struct decoder *d, const struct setting *s, const struct tree *node,
                         const char *path, uint64_t *out)
{
    if (node->kind != TREE_INTEGER)
        return decode_mismatch(d, s, node, path, setting_type_name(s->type));
    if (node->integer < 0 || (uint64_t)node->integer > type_most(s->type))
        return decode_fail(d, node->at, path, "invalid value: integer `%" PRId64 "`, expected %s",
                           node->integer, setting_type_name(s->type));
    *out = (uint64_t)node->integer;
    return 0;
}

/* Durations and sizes: an integer, or a string with a suffix. */
static int decode_scaled(struct decoder *d, const struct setting *s, const struct tree *node,
                         const char *path, uint64_t *out)
{
    bool duration = s->type == SETTING_DURATION;
    struct failure reason;

    if (node->kind == TREE_INTEGER) {
        if (node->integer < 0)
            return decode_fail(d, node->at, path, "%s cannot be negative",
                               duration ? "duration" : "byte size");
        *out = (uint64_t)node->integer;
        return 0;
    }
    if (node->kind != TREE_STRING)
        return decode_mismatch(d, s, node, path, setting_type_name(s->type));
    int result = duration ? duration_parse(out, node->text, &reason)
                          : bytes_parse(out, node->text, &reason);
    return result == 0 ? 0 : decode_fail(d, node->at, path, "%s", reason.text);
}

static int decode_pool_mode(struct decoder *d, const struct setting *s, const struct tree *node,
                            const char *path, char **out)
{
    char *text;

    if (decode_text(d, s, node, path, &text) != 0)
        return -1;
    bool transaction = strcmp(text, "transaction") == 0 || strcmp(text, "Transaction") == 0;
    if (!transaction && strcmp(text, "session") != 0 && strcmp(text, "Session") != 0)
        return decode_fail(d, node->at, path,
                           "unknown variant `%.60s`, expected one of `transaction`, "
                           "`Transaction`, `session`, `Session`",
                           text);
    *out = arena_text(d->arena, transaction ? "transaction" : "session");
    return 0;
}

static int decode_list(struct decoder *d, const struct setting *s, const struct tree *node,
                       const char *path, struct string_list *out)
{
    if (node->kind != TREE_ARRAY)
        return decode_mismatch(d, s, node, path, "a sequence");
    out->items = arena_alloc(d->arena, (node->count + 1) * sizeof *out->items);
    out->count = node->count;
    for (size_t i = 0; i < node->count; i++) {
        const struct tree *item = node->entries[i].value;
        if (decode_text(d, s, item, path, &out->items[i]) != 0)
            return -1;
        if (s->type == SETTING_CIDR_LIST && !cidr_valid(out->items[i]))
            return decode_fail(d, item->at, path,
                               "invalid IP address syntax: \"%.60s\", expected address/prefix",
                               out->items[i]);
    }
    return 0;
}

static int decode_map(struct decoder *d, const struct setting *s, const struct tree *node,
                      const char *path, struct pair_list *out)
{
    if (node->kind != TREE_TABLE)
        return decode_mismatch(d, s, node, path, "a map");
    out->items = arena_alloc(d->arena, (node->count + 1) * sizeof *out->items);
    out->count = node->count;
    for (size_t i = 0; i < node->count; i++) {
        const struct tree_entry *e = &node->entries[i];
        const char *inner = arena_format(d->arena, "%s.%s", path, e->key);
        if (e->value->kind != TREE_STRING)
            return decode_mismatch(d, s, e->value, inner, "a string");
        /* NUL bytes are validation's to refuse: it has a text of its own for them. */
        out->items[i].name = guc_canonical(d->arena, e->key);
        out->items[i].value = arena_copy(d->arena, e->value->text, e->value->len);
    }
    pairs_sort(out);
    return 0;
}

static int decode_hba_file(struct decoder *d, const struct tree *node, const char *path, char **out)
{
    struct bytes text;
    struct failure reason;

    if (file_read(&text, d->arena, node->text, &reason) != FILE_OK)
        return decode_fail(d, node->at, path, "failed to read hba file %s: %s", node->text,
                           reason.text);
    *out = (char *)(uintptr_t)text.at;
    if (strlen(*out) != text.len)
        return decode_fail(d, node->at, path, "hba file %s contains a null byte", node->text);
    return 0;
}

static int decode_hba(struct decoder *d, const struct setting *s, const struct tree *node,
                      const char *path, char **out)
{
    if (node->kind != TREE_TABLE)
        return decode_text(d, s, node, path, out);
    for (size_t i = 0; i < node->count; i++) {
        const struct tree_entry *e = &node->entries[i];
        if (strcmp(e->key, "path") != 0 && strcmp(e->key, "content") != 0)
            return decode_fail(d, e->at, path,
                               "unknown field `%.60s`, expected `path` or `content`", e->key);
    }
    const struct tree *content = tree_get(node, "content");
    const struct tree *file = tree_get(node, "path");
    char *name;
    if (content != NULL)
        return decode_text(d, s, content, path, out);
    if (file == NULL)
        return decode_fail(d, node->at, path,
                           "expected either 'path' or 'content' field for PgHba");
    if (decode_text(d, s, file, path, &name) != 0)
        return -1;
    return decode_hba_file(d, file, path, out);
}

int decode_setting(struct decoder *d, const struct setting *s, void *base, const struct tree *node,
                   const char *path)
{
    void *at = setting_at(s, base);

    switch (s->type) {
    case SETTING_STRING: return decode_text(d, s, node, path, at);
    case SETTING_BOOL:
        if (node->kind != TREE_BOOL)
            return decode_mismatch(d, s, node, path, "a boolean");
        *(bool *)at = node->truth;
        return 0;
    case SETTING_U16:
    case SETTING_U32:
    case SETTING_U64:
    case SETTING_MS:
    case SETTING_USIZE: return decode_number(d, s, node, path, at);
    case SETTING_DURATION:
    case SETTING_BYTES: return decode_scaled(d, s, node, path, at);
    case SETTING_POOL_MODE: return decode_pool_mode(d, s, node, path, at);
    case SETTING_LIST:
    case SETTING_CIDR_LIST: return decode_list(d, s, node, path, at);
    case SETTING_MAP: return decode_map(d, s, node, path, at);
    case SETTING_HBA: return decode_hba(d, s, node, path, at);
    case SETTING_SECTION: return 0;
    }
    return 0;
}

static uint64_t default_number(const struct setting *s)
{
    uint64_t value = SETTING_UNSET;
    int result = 0;

    if (s->fallback == NULL)
        return SETTING_UNSET;
    if (s->type == SETTING_DURATION)
        result = duration_parse(&value, s->fallback, NULL);
    else if (s->type == SETTING_BYTES)
        result = bytes_parse(&value, s->fallback, NULL);
    else
        value = strtoull(s->fallback, NULL, 10);
    INVARIANT(result == 0);
    return value;
}

void setting_set_default(struct arena *arena, const struct setting *s, void *base)
{
    void *at = setting_at(s, base);

    if (setting_is_text(s)) {
        *(char **)at = arena_text(arena, s->fallback);
    } else if (setting_is_number(s)) {
        *(uint64_t *)at = default_number(s);
    } else if (s->type == SETTING_BOOL) {
        *(bool *)at = strcmp(s->fallback, "true") == 0;
    } else if (setting_is_list(s) && s->fallback != NULL) {
        struct string_list *list = at;
        list->items = arena_alloc(arena, sizeof *list->items);
        list->items[0] = arena_text(arena, s->fallback);
        list->count = 1;
    }
}
