#include "config/yaml.h"

#include "config/notes.h"
#include "config/yaml_scalar.h"

#include <libfyaml.h>

enum { YAML_ALIAS_NODES_MAX = 100000 }; /* what all aliases together may unfold to */

struct yaml_anchor {
    const char *name;
    struct tree *node; /* NULL: anchors a null */
    struct yaml_anchor *next;
};

struct yaml {
    struct fy_parser *parser;
    struct fy_diag *diag;
    struct arena *arena;
    const char *file;
    struct notes *notes;
    struct failure *why;
    struct yaml_anchor *anchors;
    size_t budget;
    int depth;
};

static int yaml_node(struct yaml *y, struct fy_event *event, struct tree **out);

static struct origin yaml_at(const struct yaml *y, struct fy_token *token)
{
    const struct fy_mark *mark = token == NULL ? NULL : fy_token_start_mark(token);

    return (struct origin){y->file, mark == NULL ? 1 : mark->line + 1};
}

static int yaml_fail(struct yaml *y, struct origin at, const char *what)
{
    return fail(y->why, "YAML parse error: %s at line %d in %s", what, at.line, at.file);
}

static int yaml_fail_conversion(struct yaml *y, struct origin at, const char *what)
{
    return fail(y->why, "YAML to TOML conversion error: %s at line %d in %s", what, at.line,
                at.file);
}

/* What libfyaml has to say about the syntax. Its texts quote nothing but punctuation. */
static int yaml_fail_syntax(struct yaml *y)
{
    void *place = NULL;
    struct fy_diag_error *error;

    while ((error = fy_diag_errors_iterate(y->diag, &place)) != NULL) {
        if (error->type != FYET_ERROR)
            continue;
        return fail(y->why, "YAML parse error: %.200s at line %d column %d in %s", error->msg,
                    error->line, error->column, y->file);
    }
    return fail(y->why, "YAML parse error: invalid document in %s", y->file);
}

static char *yaml_text(struct yaml *y, struct fy_token *token, size_t *len)
{
    const char *text = token == NULL ? NULL : fy_token_get_text(token, len);

    if (text == NULL) {
        *len = 0;
        text = "";
    }
    return arena_copy(y->arena, text, *len);
}

static void yaml_remember(struct yaml *y, struct fy_token *token, struct tree *node)
{
    size_t len;

    if (token == NULL)
        return;
    struct yaml_anchor *anchor = arena_alloc(y->arena, sizeof *anchor);
    anchor->name = yaml_text(y, token, &len);
    anchor->node = node;
    anchor->next = y->anchors;
    y->anchors = anchor;
}

static int yaml_alias(struct yaml *y, struct fy_event *event, struct tree **out)
{
    struct origin at = yaml_at(y, event->alias.anchor);
    size_t len;
    const char *name = yaml_text(y, event->alias.anchor, &len);

    for (struct yaml_anchor *a = y->anchors; a != NULL; a = a->next) {
        if (strcmp(a->name, name) != 0)
            continue;
        *out = a->node == NULL ? NULL : tree_copy(y->arena, a->node, &y->budget);
        return a->node != NULL && *out == NULL ? yaml_fail(y, at, "aliases unfold to too much") : 0;
    }
    return yaml_fail(y, at, "unknown anchor");
}

/* !!str and its kin overrule the look of a word; tags of other makers have no meaning here. */
static int yaml_tagged(struct yaml *y, const char *tag, struct origin at, const char *text,
                       size_t len, struct tree **out)
{
    static const char core[] = "tag:yaml.org,2002:";
    bool ours = strncmp(tag, core, sizeof core - 1) == 0;
    const char *kind = ours ? tag + sizeof core - 1 : "";

    if (strcmp(tag, "!") == 0 || strcmp(kind, "str") == 0) {
        *out = tree_new_string(y->arena, at, text, len);
        return 0;
    }
    enum yaml_word word = yaml_resolve_plain(out, y->arena, at, text, len);
    if (strcmp(kind, "null") == 0 && word == YAML_NULL) {
        *out = NULL;
        return 0;
    }
    enum tree_kind got = word == YAML_VALUE ? (*out)->kind : TREE_STRING;
    bool fits = (strcmp(kind, "int") == 0 && got == TREE_INTEGER) ||
                (strcmp(kind, "bool") == 0 && got == TREE_BOOL) ||
                (strcmp(kind, "float") == 0 && got == TREE_FLOAT);
    return fits ? 0 : yaml_fail_conversion(y, at, "the tag does not suit the value");
}

static int yaml_scalar(struct yaml *y, struct fy_event *event, struct tree **out)
{
    struct fy_token *token = event->scalar.value;
    struct origin at = yaml_at(y, token);
    size_t len;
    size_t tag_len;
    char *text = yaml_text(y, token, &len);

    *out = NULL;
    if (event->scalar.tag != NULL) {
        const char *tag = yaml_text(y, event->scalar.tag, &tag_len);
        if (yaml_tagged(y, tag, at, text, len, out) != 0)
            return -1;
    } else if (token != NULL && fy_token_scalar_style(token) != FYSS_PLAIN) {
        *out = tree_new_string(y->arena, at, text, len);
    } else if (yaml_resolve_plain(out, y->arena, at, text, len) == YAML_TOO_LARGE) {
        return yaml_fail_conversion(y, at, "the integer does not fit 64 bits");
    }
    yaml_remember(y, event->scalar.anchor, *out);
    return 0;
}

static int yaml_sequence(struct yaml *y, struct fy_event *start, struct tree **out)
{
    struct tree *array = tree_new(y->arena, TREE_ARRAY,
                                  yaml_at(y, start->sequence_start.sequence_start));
    struct fy_event *event;

    while ((event = fy_parser_parse(y->parser)) != NULL && event->type != FYET_SEQUENCE_END) {
        struct origin at = yaml_at(y, fy_event_get_token(event));
        struct tree *value = NULL;
        int result = yaml_node(y, event, &value);
        fy_parser_event_free(y->parser, event);
        if (result != 0)
            return -1;
        if (value == NULL)
            note(y->notes, "%s:%d: empty list element ignored", at.file, at.line);
        else
            tree_append(y->arena, array, value);
    }
    if (event == NULL)
        return yaml_fail_syntax(y);
    fy_parser_event_free(y->parser, event);
    yaml_remember(y, start->sequence_start.anchor, array);
    *out = array;
    return 0;
}

/* Puts key and value into the table. A null value makes the key absent, also an earlier one. */
static void yaml_put(struct yaml *y, struct tree *table, struct tree *key, struct tree *value)
{
    struct tree_entry *e = tree_entry(table, key->text, key->len);

    if (e == NULL) {
        if (value != NULL)
            tree_add(y->arena, table, key->text, key->len, key->at, value);
        return;
    }
    note(y->notes, "%s:%d: key `%.80s` is given twice (first in line %d); the last one counts",
         key->at.file, key->at.line, key->text, e->at.line);
    if (value != NULL) {
        e->value = value;
        e->at = key->at;
        return;
    }
    size_t behind = table->count - (size_t)(e + 1 - table->entries);
    memmove(e, e + 1, behind * sizeof *e);
    table->count--;
}

static int yaml_key(struct yaml *y, struct fy_event *event, struct tree **out)
{
    struct origin at = yaml_at(y, fy_event_get_token(event));
    struct tree *aliased = NULL;
    size_t len;

    if (event->type == FYET_ALIAS) {
        if (yaml_alias(y, event, &aliased) != 0)
            return -1;
        if (aliased == NULL || aliased->kind != TREE_STRING)
            return yaml_fail(y, at, "a mapping key must be a scalar");
        *out = aliased;
        return 0;
    }
    if (event->type != FYET_SCALAR)
        return yaml_fail(y, at, "a mapping key must be a scalar");
    char *text = yaml_text(y, event->scalar.value, &len);
    *out = tree_new_string(y->arena, at, text, len);
    yaml_remember(y, event->scalar.anchor, *out);
    return 0;
}

static int yaml_mapping_value(struct yaml *y, struct tree *table, struct tree *key)
{
    struct fy_event *event = fy_parser_parse(y->parser);
    struct tree *value = NULL;

    if (event == NULL)
        return yaml_fail_syntax(y);
    int result = yaml_node(y, event, &value);
    fy_parser_event_free(y->parser, event);
    if (result != 0)
        return -1;
    yaml_put(y, table, key, value);
    return 0;
}

static int yaml_mapping(struct yaml *y, struct fy_event *start, struct tree **out)
{
    struct tree *table = tree_new(y->arena, TREE_TABLE,
                                  yaml_at(y, start->mapping_start.mapping_start));
    struct fy_event *event;

    while ((event = fy_parser_parse(y->parser)) != NULL && event->type != FYET_MAPPING_END) {
        struct tree *key = NULL;
        int result = yaml_key(y, event, &key);
        fy_parser_event_free(y->parser, event);
        if (result != 0 || yaml_mapping_value(y, table, key) != 0)
            return -1;
    }
    if (event == NULL)
        return yaml_fail_syntax(y);
    fy_parser_event_free(y->parser, event);
    yaml_remember(y, start->mapping_start.anchor, table);
    *out = table;
    return 0;
}

/* The node that starts with `event`; *out stays NULL for a null. */
static int yaml_node(struct yaml *y, struct fy_event *event, struct tree **out)
{
    if (event->type == FYET_SCALAR)
        return yaml_scalar(y, event, out);
    if (event->type == FYET_ALIAS)
        return yaml_alias(y, event, out);
    if (event->type != FYET_MAPPING_START && event->type != FYET_SEQUENCE_START)
        return yaml_fail_syntax(y);
    if (y->depth == TREE_DEPTH_MAX)
        return yaml_fail(y, yaml_at(y, fy_event_get_token(event)), "nested too deeply");
    y->depth++;
    int result = event->type == FYET_MAPPING_START ? yaml_mapping(y, event, out)
                                                   : yaml_sequence(y, event, out);
    y->depth--;
    return result;
}

/* Stream of exactly one document. */
static int yaml_stream(struct yaml *y, struct tree **out)
{
    struct fy_event *event;
    int documents = 0;
    int result = 0;

    while (result == 0 && (event = fy_parser_parse(y->parser)) != NULL) {
        enum fy_event_type type = event->type;
        if (type == FYET_DOCUMENT_START && ++documents > 1)
            result = fail(y->why, "YAML parse error: more than one document in %s", y->file);
        else if (type != FYET_STREAM_START && type != FYET_STREAM_END &&
                 type != FYET_DOCUMENT_START && type != FYET_DOCUMENT_END)
            result = yaml_node(y, event, out);
        fy_parser_event_free(y->parser, event);
        if (type == FYET_STREAM_END)
            return result;
    }
    return result != 0 ? result : yaml_fail_syntax(y);
}

static int yaml_read(struct yaml *y, struct tree **out)
{
    struct tree *root = NULL;

    if (yaml_stream(y, &root) != 0)
        return -1;
    if (root == NULL)
        return yaml_fail_conversion(y, (struct origin){y->file, 1}, "the document is empty");
    if (root->kind != TREE_TABLE)
        return yaml_fail_conversion(y, root->at, "the document is not a mapping");
    *out = root;
    return 0;
}

int yaml_parse(struct tree **out, struct arena *arena, const char *file, const char *text,
               size_t len, struct notes *notes, struct failure *why)
{
    struct yaml y = {
        .arena = arena, .file = file, .notes = notes, .why = why, .budget = YAML_ALIAS_NODES_MAX};
    int result = -1;

    if (!utf8_valid(text, len))
        return fail(why, "YAML parse error: %s is not valid UTF-8", file);
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }

    y.diag = fy_diag_create(NULL);
    INVARIANT(y.diag != NULL);
    fy_diag_set_collect_errors(y.diag, true);
    struct fy_parse_cfg options = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = y.diag};
    y.parser = fy_parser_create(&options);
    INVARIANT(y.parser != NULL);
    if (fy_parser_set_string(y.parser, text, len) == 0)
        result = yaml_read(&y, out);
    else
        fail(why, "YAML parse error: %s cannot be read", file);
    fy_parser_destroy(y.parser);
    fy_diag_destroy(y.diag);
    return result;
}
