/* toml.c: the shape of a TOML document: keys, tables, arrays, and who may extend what. */
#include "config/toml_reader.h"

#include <stdarg.h>
#include <stdio.h>

/* How a table or array came to be decides what may still be added to it. */
enum {
    MARK_HEADER = 1, /* named by its own [header] */
    MARK_DOTTED = 2, /* made by a dotted key */
    MARK_CLOSED = 4, /* inline table or literal array: complete as written */
    MARK_TABLES = 8  /* array made by [[header]] */
};

struct toml_key {
    const char *text;
    size_t len;
    const char *at;
    struct toml_key *next;
};

static int toml_value(struct toml *t, struct tree **out);

int toml_fail(struct toml *t, const char *at, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    int line = 1;
    int column = 1;

    for (const char *p = t->start; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*p & 0xc0) != 0x80) {
            column++;
        }
    }
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return fail(t->why, "TOML parse error at line %d, column %d in %s: %s", line, column, t->file,
                reason);
}

int toml_newline(struct toml *t)
{
    if (toml_peek(t) == '\r') {
        if (!toml_sees(t, "\r\n"))
            return toml_fail(t, t->p, "carriage return without line feed");
        t->p++;
    }
    if (toml_peek(t) != '\n')
        return 0;
    t->p++;
    t->line++;
    return 1;
}

static void toml_blanks(struct toml *t)
{
    while (toml_peek(t) == ' ' || toml_peek(t) == '\t')
        t->p++;
}

static int toml_comment(struct toml *t)
{
    if (toml_peek(t) != '#')
        return 0;
    for (; t->p < t->end; t->p++) {
        unsigned char c = (unsigned char)*t->p;
        if (c == '\n' || (c == '\r' && toml_sees(t, "\r\n")))
            return 0;
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return toml_fail(t, t->p, "control character in a comment");
    }
    return 0;
}

/* Blanks, comments and line ends, as they may stand between array elements and statements. */
static int toml_gap(struct toml *t)
{
    for (;;) {
        toml_blanks(t);
        if (toml_comment(t) != 0)
            return -1;
        int newline = toml_newline(t);
        if (newline <= 0)
            return newline;
    }
}

static bool toml_is_bare(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static int toml_key_part(struct toml *t, struct toml_key *key)
{
    struct tree *quoted;

    key->at = t->p;
    if (toml_peek(t) == '"' || toml_peek(t) == '\'') {
        if (toml_string(t, &quoted, true) != 0)
            return -1;
        key->text = quoted->text;
        key->len = quoted->len;
        return 0;
    }
    while (toml_is_bare(toml_peek(t)))
        t->p++;
    if (t->p == key->at)
        return toml_fail(t, t->p, "expected a key");
    key->len = (size_t)(t->p - key->at);
    key->text = arena_copy(t->arena, key->at, key->len);
    return 0;
}

/* a.b."c": a chain of parts, blanks allowed around the dots. */
static int toml_key(struct toml *t, struct toml_key **out)
{
    struct toml_key **tail = out;
    int parts = 0;

    *out = NULL;
    for (;;) {
        struct toml_key *key = arena_alloc(t->arena, sizeof *key);
        if (++parts > TREE_DEPTH_MAX)
            return toml_fail(t, t->p, "too many parts in a key");
        if (toml_key_part(t, key) != 0)
            return -1;
        *tail = key;
        tail = &key->next;
        toml_blanks(t);
        if (toml_peek(t) != '.')
            return 0;
        t->p++;
        toml_blanks(t);
    }
}

static int toml_duplicate(struct toml *t, const struct toml_key *key)
{
    return toml_fail(t, key->at, "duplicate key `%.60s`", key->text);
}

static struct tree *toml_add_table(struct toml *t, struct tree *in, const struct toml_key *key,
                                   uint8_t marks)
{
    struct tree *table = tree_new(t->arena, TREE_TABLE, toml_here(t));

    table->marks = marks;
    tree_add(t->arena, in, key->text, key->len, toml_here(t), table);
    return table;
}

/* key = value, in the table `in`. Dotted keys may only extend tables that dotted keys made. */
static int toml_pair(struct toml *t, struct tree *in)
{
    struct toml_key *key;
    struct tree *value;
    struct origin at = toml_here(t);

    if (toml_key(t, &key) != 0)
        return -1;
    for (; key->next != NULL; key = key->next) {
        struct tree_entry *e = tree_entry(in, key->text, key->len);
        if (e == NULL) {
            in = toml_add_table(t, in, key, MARK_DOTTED);
            continue;
        }
        in = e->value;
        if (in->kind != TREE_TABLE || (in->marks & MARK_CLOSED) || !(in->marks & MARK_DOTTED))
            return toml_fail(t, key->at, "key `%.60s` cannot be extended here", key->text);
    }
    if (tree_entry(in, key->text, key->len) != NULL)
        return toml_duplicate(t, key);
    if (toml_peek(t) != '=')
        return toml_fail(t, t->p, "expected `=` after the key");
    t->p++;
    toml_blanks(t);
    if (toml_value(t, &value) != 0)
        return -1;
    tree_add(t->arena, in, key->text, key->len, at, value);
    return 0;
}

static int toml_inline_table(struct toml *t, struct tree **out)
{
    struct tree *table = tree_new(t->arena, TREE_TABLE, toml_here(t));

    t->p++;
    toml_blanks(t);
    if (toml_peek(t) == '}')
        goto done;
    for (;;) {
        if (toml_pair(t, table) != 0)
            return -1;
        toml_blanks(t);
        if (toml_peek(t) == '}')
            break;
        if (toml_peek(t) != ',')
            return toml_fail(t, t->p, "expected `,` or `}` in an inline table");
        t->p++;
        toml_blanks(t);
    }
done:
    t->p++;
    table->marks = MARK_CLOSED;
    *out = table;
    return 0;
}

static int toml_array(struct toml *t, struct tree **out)
{
    struct tree *array = tree_new(t->arena, TREE_ARRAY, toml_here(t));
    struct tree *value;

    t->p++;
    array->marks = MARK_CLOSED;
    for (;;) {
        if (toml_gap(t) != 0)
            return -1;
        if (toml_peek(t) == ']')
            break;
        if (toml_value(t, &value) != 0)
            return -1;
        tree_append(t->arena, array, value);
        if (toml_gap(t) != 0)
            return -1;
        if (toml_peek(t) == ']')
            break;
        if (toml_peek(t) != ',')
            return toml_fail(t, t->p, "expected `,` or `]` in an array");
        t->p++;
    }
    t->p++;
    *out = array;
    return 0;
}

static int toml_value(struct toml *t, struct tree **out)
{
    int c = toml_peek(t);
    int result;

    if (c == '"' || c == '\'')
        return toml_string(t, out, false);
    if (c != '[' && c != '{')
        return toml_scalar(t, out);
    if (t->depth == TREE_DEPTH_MAX)
        return toml_fail(t, t->p, "nested too deeply");
    t->depth++;
    result = c == '[' ? toml_array(t, out) : toml_inline_table(t, out);
    t->depth--;
    return result;
}

/* The table that a header names but for its last part. Arrays of tables stand for their newest
 * element. */
static int toml_header_walk(struct toml *t, struct tree **in, struct toml_key **key)
{
    for (; (*key)->next != NULL; *key = (*key)->next) {
        struct tree_entry *e = tree_entry(*in, (*key)->text, (*key)->len);
        if (e == NULL) {
            *in = toml_add_table(t, *in, *key, 0);
            continue;
        }
        *in = e->value;
        if ((*in)->kind == TREE_ARRAY && ((*in)->marks & MARK_TABLES))
            *in = (*in)->entries[(*in)->count - 1].value;
        if ((*in)->kind != TREE_TABLE || ((*in)->marks & MARK_CLOSED))
            return toml_fail(t, (*key)->at, "key `%.60s` cannot be extended by a table header",
                             (*key)->text);
    }
    return 0;
}

static int toml_open_table(struct toml *t, struct tree *in, const struct toml_key *key,
                           struct tree **out)
{
    struct tree_entry *e = tree_entry(in, key->text, key->len);

    if (e == NULL) {
        *out = toml_add_table(t, in, key, MARK_HEADER);
        return 0;
    }
    if (e->value->kind != TREE_TABLE || e->value->marks != 0)
        return toml_duplicate(t, key);
    e->value->marks = MARK_HEADER;
    e->value->at = toml_here(t);
    *out = e->value;
    return 0;
}

static int toml_open_element(struct toml *t, struct tree *in, const struct toml_key *key,
                             struct tree **out)
{
    struct tree_entry *e = tree_entry(in, key->text, key->len);
    struct tree *array;

    if (e == NULL) {
        array = tree_new(t->arena, TREE_ARRAY, toml_here(t));
        array->marks = MARK_TABLES;
        tree_add(t->arena, in, key->text, key->len, toml_here(t), array);
    } else {
        array = e->value;
        if (array->kind != TREE_ARRAY || !(array->marks & MARK_TABLES))
            return toml_duplicate(t, key);
    }
    *out = tree_new(t->arena, TREE_TABLE, toml_here(t));
    (*out)->marks = MARK_HEADER;
    tree_append(t->arena, array, *out);
    return 0;
}

/* [a.b] or [[a.b]]: the table that the pairs below it go to. */
static int toml_header(struct toml *t, struct tree *root, struct tree **current)
{
    bool element = toml_sees(t, "[[");
    struct toml_key *key;
    struct tree *in = root;

    t->p += element ? 2 : 1;
    toml_blanks(t);
    if (toml_key(t, &key) != 0)
        return -1;
    if (!toml_sees(t, element ? "]]" : "]"))
        return toml_fail(t, t->p, "expected `%s` after a table name", element ? "]]" : "]");
    t->p += element ? 2 : 1;
    if (toml_header_walk(t, &in, &key) != 0)
        return -1;
    return element ? toml_open_element(t, in, key, current) : toml_open_table(t, in, key, current);
}

static int toml_line_end(struct toml *t)
{
    toml_blanks(t);
    if (toml_comment(t) != 0)
        return -1;
    if (t->p == t->end)
        return 0;
    int newline = toml_newline(t);
    if (newline < 0)
        return -1;
    return newline == 1 ? 0 : toml_fail(t, t->p, "expected the end of the line");
}

int toml_parse(struct tree **out, struct arena *arena, const char *file, const char *text,
               size_t len, struct failure *why)
{
    struct toml t = {.start = text,
                     .p = text,
                     .end = text + len,
                     .line = 1,
                     .file = file,
                     .arena = arena,
                     .why = why};
    struct tree *root = tree_new(arena, TREE_TABLE, (struct origin){file, 1});
    struct tree *current = root;

    if (!utf8_valid(text, len))
        return toml_fail(&t, text, "the file is not valid UTF-8");
    if (toml_sees(&t, "\xef\xbb\xbf"))
        t.p += 3;
    for (;;) {
        if (toml_gap(&t) != 0)
            return -1;
        if (t.p == t.end)
            break;
        int result = *t.p == '[' ? toml_header(&t, root, &current) : toml_pair(&t, current);
        if (result != 0 || toml_line_end(&t) != 0)
            return -1;
    }
    *out = root;
    return 0;
}
