/* Any bytes as YAML: the reader says yes, or no and where; what it accepted is a tree whose texts
 * end where their lengths say, and repeated keys are gone. */
#include "config/notes.h"
#include "config/yaml.h"

#include <stdlib.h>

/* libfyaml forgets a kilobyte when it gives up on some documents. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfyaml\n";
}

static void check(const struct tree *node)
{
    if (node->kind == TREE_STRING)
        INVARIANT(node->text[node->len] == '\0');
    if (node->kind != TREE_TABLE && node->kind != TREE_ARRAY)
        return;
    for (size_t i = 0; i < node->count; i++) {
        check(node->entries[i].value);
        if (node->kind != TREE_TABLE)
            continue;
        INVARIANT(node->entries[i].key[node->entries[i].key_len] == '\0');
        for (size_t before = 0; before < i && i < 100; before++)
            INVARIANT(node->entries[before].key_len != node->entries[i].key_len ||
                      memcmp(node->entries[before].key, node->entries[i].key,
                             node->entries[i].key_len) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena arena = {0};
    struct string_list remarks = {0};
    struct notes notes = {.arena = &arena, .list = &remarks};
    struct failure why = {""};
    struct tree *root = NULL;

    if (len > 1 << 12) /* the library is slow */
        return 0;
    if (yaml_parse(&root, &arena, "fuzz", (const char *)data, len, &notes, &why) != 0)
        INVARIANT(strncmp(why.text, "YAML ", 5) == 0);
    else
        check(root);
    arena_free(&arena);
    return 0;
}
