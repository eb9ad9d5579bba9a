/* tree.h: a configuration document as it was written, whichever format it came in.
 *
 * TOML and YAML readers both build it; includes are merged in it; the decoder reads it. Each node
 * knows its file and line, so that every complaint can name the operator's own text. Nodes live in
 * an arena and are never freed alone. Strings may hold NUL bytes: use the length.
 */
#ifndef CONFIG_TREE_H
#define CONFIG_TREE_H

#include "config/arena.h"

enum tree_kind {
    TREE_TABLE,
    TREE_ARRAY,
    TREE_STRING,
    TREE_INTEGER,
    TREE_FLOAT,
    TREE_BOOL,
    TREE_DATETIME /* TOML only; kept as its text */
};

enum { TREE_DEPTH_MAX = 100 }; /* nesting that both readers accept */

struct origin {
    const char *file;
    int line; /* from 1 */
};

struct tree {
    enum tree_kind kind;
    uint8_t marks; /* the reader's own */
    struct origin at;
    const char *text; /* string, datetime, float: with a NUL behind it */
    size_t len;
    int64_t integer;
    double number;
    bool truth;
    struct tree_entry *entries; /* table and array, in the order of the file */
    size_t count;
    size_t room;
};

struct tree_entry {
    const char *key; /* NULL in arrays */
    size_t key_len;
    struct origin at; /* where the key stands */
    struct tree *value;
};

struct tree *tree_new(struct arena *arena, enum tree_kind kind, struct origin at);
struct tree *tree_new_string(struct arena *arena, struct origin at, const char *text, size_t len);
/* Appends; the caller has made sure that the key is new. */
void tree_add(struct arena *arena, struct tree *table, const char *key, size_t key_len,
              struct origin at, struct tree *value);
void tree_append(struct arena *arena, struct tree *array, struct tree *value);
/* NULL when there is none, or when `table` is NULL or no table. */
struct tree_entry *tree_entry(const struct tree *table, const char *key, size_t key_len);
struct tree *tree_get(const struct tree *table, const char *key);
/* Counts down `budget` per node; NULL when it is used up (aliases of aliases of aliases). */
struct tree *tree_copy(struct arena *arena, const struct tree *from, size_t *budget);
bool tree_equal(const struct tree *a, const struct tree *b); /* origins and marks aside */

const char *tree_kind_name(enum tree_kind kind); /* "integer", "string", ... */
/* The value for a message, as in: integer `5`, string "x", map. Returns out. */
const char *tree_describe(const struct tree *node, bool secret, char *out, size_t size);

/* Valid UTF-8 without surrogates or overlong forms? */
bool utf8_valid(const char *text, size_t len);

#endif
