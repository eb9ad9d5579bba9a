#include "config/tree.h"

#include <inttypes.h>
#include <stdio.h>

struct tree *tree_new(struct arena *arena, enum tree_kind kind, struct origin at)
{
    struct tree *node = arena_alloc(arena, sizeof *node);

    node->kind = kind;
    node->at = at;
    return node;
}

struct tree *tree_new_string(struct arena *arena, struct origin at, const char *text, size_t len)
{
    struct tree *node = tree_new(arena, TREE_STRING, at);

    node->text = arena_copy(arena, text, len);
    node->len = len;
    return node;
}

void tree_add(struct arena *arena, struct tree *table, const char *key, size_t key_len,
              struct origin at, struct tree *value)
{
    table->entries = arena_grow(arena, table->entries, table->count, &table->room,
                                sizeof *table->entries);
    table->entries[table->count++] = (struct tree_entry){
        .key = key, .key_len = key_len, .at = at, .value = value};
}

void tree_append(struct arena *arena, struct tree *array, struct tree *value)
{
    INVARIANT(array->kind == TREE_ARRAY);
    tree_add(arena, array, NULL, 0, value->at, value);
}

struct tree_entry *tree_entry(const struct tree *table, const char *key, size_t key_len)
{
    if (table == NULL || table->kind != TREE_TABLE)
        return NULL;
    for (size_t i = 0; i < table->count; i++) {
        struct tree_entry *e = &table->entries[i];
        if (e->key_len == key_len && memcmp(e->key, key, key_len) == 0)
            return e;
    }
    return NULL;
}

struct tree *tree_get(const struct tree *table, const char *key)
{
    struct tree_entry *e = tree_entry(table, key, strlen(key));

    return e == NULL ? NULL : e->value;
}

struct tree *tree_copy(struct arena *arena, const struct tree *from, size_t *budget)
{
    if (*budget == 0)
        return NULL;
    --*budget;

    struct tree *copy = tree_new(arena, from->kind, from->at);
    *copy = *from;
    copy->entries = NULL;
    copy->count = 0;
    copy->room = 0;
    for (size_t i = 0; i < from->count; i++) {
        const struct tree_entry *e = &from->entries[i];
        struct tree *child = tree_copy(arena, e->value, budget);
        if (child == NULL)
            return NULL;
        tree_add(arena, copy, e->key, e->key_len, e->at, child);
    }
    return copy;
}

static bool tree_entries_equal(const struct tree *a, const struct tree *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct tree_entry *x = &a->entries[i];
        const struct tree_entry *y = &b->entries[i];
        if (a->kind == TREE_TABLE)
            y = tree_entry(b, x->key, x->key_len);
        if (y == NULL || !tree_equal(x->value, y->value))
            return false;
    }
    return true;
}

bool tree_equal(const struct tree *a, const struct tree *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case TREE_TABLE:
    case TREE_ARRAY: return tree_entries_equal(a, b);
    case TREE_STRING:
    case TREE_DATETIME: return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
    case TREE_INTEGER: return a->integer == b->integer;
    case TREE_BOOL: return a->truth == b->truth;
    case TREE_FLOAT:
        /* NaN equals NaN here: the question is whether the documents say the same. */
        return a->number == b->number || (a->number != a->number && b->number != b->number);
    }
    return false;
}

const char *tree_kind_name(enum tree_kind kind)
{
    switch (kind) {
    case TREE_TABLE: return "map";
    case TREE_ARRAY: return "sequence";
    case TREE_STRING: return "string";
    case TREE_INTEGER: return "integer";
    case TREE_FLOAT: return "floating point";
    case TREE_BOOL: return "boolean";
    case TREE_DATETIME: return "datetime";
    }
    return "value";
}

const char *tree_describe(const struct tree *node, bool secret, char *out, size_t size)
{
    const char *name = tree_kind_name(node->kind);

    /* A quoted value ends up in logs and terminals; a password must not. */
    if (secret || node->kind == TREE_TABLE || node->kind == TREE_ARRAY)
        snprintf(out, size, "%s", name);
    else if (node->kind == TREE_STRING)
        snprintf(out, size, "%s \"%.80s\"", name, node->text);
    else if (node->kind == TREE_INTEGER)
        snprintf(out, size, "%s `%" PRId64 "`", name, node->integer);
    else if (node->kind == TREE_BOOL)
        snprintf(out, size, "%s `%s`", name, node->truth ? "true" : "false");
    else
        snprintf(out, size, "%s `%.40s`", name, node->text);
    return out;
}

/* Length of the sequence that starts at p; 0 when it is not valid. */
static size_t utf8_sequence(const unsigned char *p, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;

    if (n <= 1)
        return n;
    if (n > len)
        return 0;

    uint32_t code = p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    return n;
}

bool utf8_valid(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;

    while (len > 0) {
        size_t n = utf8_sequence(p, len);
        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}
