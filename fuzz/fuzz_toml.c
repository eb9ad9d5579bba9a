/* Any bytes: the reader says yes or no, and what it accepted can be written down as TOML again and
 * reads back as the same document. */
#include "config/toml.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void write_string(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void write_float(FILE *out, double number)
{
    if (isnan(number) || isinf(number))
        fputs(isnan(number) ? "nan" : number < 0 ? "-inf" : "inf", out);
    else
        fprintf(out, "%.17e", number);
}

static void write_value(FILE *out, const struct tree *node)
{
    switch (node->kind) {
    case TREE_TABLE:
    case TREE_ARRAY:
        fputc(node->kind == TREE_TABLE ? '{' : '[', out);
        for (size_t i = 0; i < node->count; i++) {
            if (i > 0)
                fputc(',', out);
            if (node->kind == TREE_TABLE) {
                write_string(out, node->entries[i].key, node->entries[i].key_len);
                fputc('=', out);
            }
            write_value(out, node->entries[i].value);
        }
        fputc(node->kind == TREE_TABLE ? '}' : ']', out);
        break;
    case TREE_STRING: write_string(out, node->text, node->len); break;
    case TREE_DATETIME: fwrite(node->text, 1, node->len, out); break;
    case TREE_INTEGER: fprintf(out, "%" PRId64, node->integer); break;
    case TREE_FLOAT: write_float(out, node->number); break;
    case TREE_BOOL: fputs(node->truth ? "true" : "false", out); break;
    }
}

static size_t depth_of(const struct tree *node)
{
    size_t deepest = 0;

    for (size_t i = 0; i < node->count; i++)
        deepest = MAX(deepest, depth_of(node->entries[i].value));
    return deepest + 1;
}

static void check_round_trip(struct arena *arena, const struct tree *root)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct failure why;
    struct tree *again;

    INVARIANT(out != NULL);
    for (size_t i = 0; i < root->count; i++) {
        write_string(out, root->entries[i].key, root->entries[i].key_len);
        fputc('=', out);
        write_value(out, root->entries[i].value);
        fputc('\n', out);
    }
    fclose(out);
    INVARIANT(toml_parse(&again, arena, "again", text, len, &why) == 0);
    INVARIANT(tree_equal(root, again));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena arena = {0};
    struct failure why = {""};
    struct tree *root = NULL;

    if (toml_parse(&root, &arena, "fuzz", (const char *)data, len, &why) != 0)
        INVARIANT(strncmp(why.text, "TOML parse error at line ", 25) == 0);
    else if (depth_of(root) < TREE_DEPTH_MAX) /* headers nest deeper than values may */
        check_round_trip(&arena, root);
    arena_free(&arena);
    return 0;
}
