#include "config/include.h"

#include "config/toml.h"
#include "config/yaml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { FILE_BYTES_MAX = 64 * 1024 * 1024, FILE_STEP_BYTES = 16 * 1024 };

static int fail_os(struct failure *why)
{
    return fail(why, "%s (os error %d)", strerror(errno), errno);
}

/* The text in malloc'ed memory; NULL with errno set. */
static char *stream_read(FILE *f, size_t *len)
{
    char *text = NULL;

    *len = 0;
    for (size_t room = FILE_STEP_BYTES; *len < FILE_BYTES_MAX; room *= 2) {
        char *wider = realloc(text, room);
        INVARIANT(wider != NULL);
        text = wider;
        *len += fread(text + *len, 1, room - *len, f);
        if (ferror(f))
            break;
        if (*len < room)
            return text;
    }
    if (!ferror(f))
        errno = EFBIG;
    int saved = errno;
    free(text);
    errno = saved;
    return NULL;
}

enum file_result file_read(struct bytes *out, struct arena *arena, const char *path,
                           struct failure *why)
{
    FILE *f = fopen(path, "re");
    size_t len;

    if (f == NULL) {
        fail_os(why);
        return FILE_CANNOT_OPEN;
    }
    char *text = stream_read(f, &len);
    if (text == NULL)
        fail_os(why);
    fclose(f);
    if (text == NULL)
        return FILE_CANNOT_READ;
    *out = (struct bytes){(uint8_t *)arena_copy(arena, text, len), len};
    explicit_bzero(text, len); /* key files come this way too */
    free(text);
    return FILE_OK;
}

bool path_is_yaml(const char *path)
{
    size_t len = strlen(path);

    return (len >= 5 && strcasecmp(path + len - 5, ".yaml") == 0) ||
           (len >= 4 && strcasecmp(path + len - 4, ".yml") == 0);
}

static int file_parse(struct tree **out, struct arena *arena, const char *path, bool included,
                      struct notes *warnings, struct failure *why)
{
    struct failure reason;
    struct bytes text;
    const char *file = arena_text(arena, path);

    switch (file_read(&text, arena, path, &reason)) {
    case FILE_OK: break;
    case FILE_CANNOT_OPEN: return fail(why, "Could not open '%s': %s", path, reason.text);
    case FILE_CANNOT_READ:
        return fail(why, "Could not read config file: %s: %s", reason.text, path);
    }
    if (!utf8_valid((const char *)text.at, text.len))
        return fail(why, "Could not read config file: stream did not contain valid UTF-8: %s",
                    path);
    if (path_is_yaml(path))
        return yaml_parse(out, arena, file, (const char *)text.at, text.len, warnings, why);
    if (toml_parse(out, arena, file, (const char *)text.at, text.len, &reason) == 0)
        return 0;
    if (included)
        return fail(why, "Could not parse include file %s: %s", path, reason.text);
    return fail(why, "TOML parse error: %s", reason.text);
}

/* One step of tree_merge; `path` is what has been walked so far. */
static int merge_at(struct arena *arena, const char *path, struct tree *base,
                    const struct tree *extra, struct failure *why)
{
    for (size_t i = 0; i < extra->count; i++) {
        const struct tree_entry *e = &extra->entries[i];
        struct tree_entry *old = tree_entry(base, e->key, e->key_len);
        if (old == NULL) {
            tree_add(arena, base, e->key, e->key_len, e->at, e->value);
            continue;
        }
        const char *name = arena_format(arena, "%s%s%s", path, *path == '\0' ? "" : ".", e->key);
        if (old->value->kind != e->value->kind)
            return fail(why, "key %s: expected %s (from %s:%d), received %s (%s:%d)", name,
                        tree_kind_name(old->value->kind), old->value->at.file, old->value->at.line,
                        tree_kind_name(e->value->kind), e->value->at.file, e->value->at.line);
        if (e->value->kind == TREE_TABLE) {
            if (merge_at(arena, name, old->value, e->value, why) != 0)
                return -1;
        } else if (e->value->kind == TREE_ARRAY) {
            for (size_t j = 0; j < e->value->count; j++)
                tree_append(arena, old->value, e->value->entries[j].value);
        } else {
            *old = *e;
        }
    }
    return 0;
}

int tree_merge(struct arena *arena, struct tree *base, const struct tree *extra,
               struct failure *why)
{
    return merge_at(arena, "", base, extra, why);
}

static int include_one(struct arena *arena, struct tree *root, const struct tree *name,
                       struct notes *warnings, struct notes *remarks, struct failure *why)
{
    struct tree *extra;
    struct failure reason;

    if (name->kind != TREE_STRING || strlen(name->text) != name->len) {
        char what[128];
        return fail(why,
                    "Could not merge config: invalid type: %s, expected a string (include.files, "
                    "%s:%d)",
                    tree_describe(name, false, what, sizeof what), name->at.file, name->at.line);
    }
    note(remarks, "Merge config with include file: %s", name->text);
    if (file_parse(&extra, arena, name->text, true, warnings, why) != 0)
        return -1;
    if (tree_merge(arena, root, extra, &reason) != 0)
        return fail(why, "Could not merge config file %s: %s", name->text, reason.text);
    return 0;
}

int document_read(struct tree **out, struct arena *arena, const char *path, struct notes *warnings,
                  struct notes *remarks, struct failure *why)
{
    struct tree *root;

    if (file_parse(&root, arena, path, false, warnings, why) != 0)
        return -1;

    /* Merging appends to this very list; only what the main file says is followed. */
    const struct tree *files = tree_get(tree_get(root, "include"), "files");
    size_t count = files == NULL || files->kind != TREE_ARRAY ? 0 : files->count;
    for (size_t i = 0; i < count; i++)
        if (include_one(arena, root, files->entries[i].value, warnings, remarks, why) != 0)
            return -1;
    *out = root;
    return 0;
}
