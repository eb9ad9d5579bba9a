#include "actors/admin.h"

#include <inttypes.h>
#include <stdio.h>

enum { OID_INT4 = 23, OID_TEXT = 25, OID_NUMERIC = 1700, COLUMNS_MAX = 64, NUMBER_MAX = 32 };

static uint32_t type_of(enum cell cell)
{
    switch (cell) {
    case CELL_TEXT:
    case CELL_NUMBER_TEXT:
    case CELL_FLAG:
    case CELL_TRUTH:
    case CELL_CLIENT:
    case CELL_SERVER:
    case CELL_HEX: return OID_TEXT;
    case CELL_INT:
    case CELL_INT_ZERO: return OID_INT4;
    case CELL_NUMBER:
    case CELL_SIGNED:
    case CELL_ZERO:
    case CELL_SECONDS:
    case CELL_WHOLE_SECONDS:
    case CELL_REST_US: return OID_NUMERIC;
    }
    return OID_TEXT;
}

void table_head(const struct table *t)
{
    struct column_spec specs[COLUMNS_MAX];

    INVARIANT(t->count <= COLUMNS_MAX);
    for (size_t i = 0; i < t->count; i++) {
        specs[i].name = t->columns[i].name;
        specs[i].type_oid = type_of(t->columns[i].cell);
    }
    write_row_description(t->out, specs, t->count);
}

/* The shortest form: 0, 0.5, 12.000345. */
static void print_seconds(char *out, uint64_t us)
{
    snprintf(out, NUMBER_MAX, "%" PRIu64 ".%06u", us / 1000000, (unsigned)(us % 1000000));
    size_t len = strlen(out);
    while (out[len - 1] == '0')
        len--;
    if (out[len - 1] == '.')
        len--;
    out[len] = '\0';
}

static void print_number(char *out, enum cell cell, uint64_t value)
{
    switch (cell) {
    case CELL_SIGNED: snprintf(out, NUMBER_MAX, "%" PRId64, (int64_t)value); break;
    case CELL_SECONDS: print_seconds(out, value); break;
    case CELL_WHOLE_SECONDS: snprintf(out, NUMBER_MAX, "%" PRIu64, value / 1000000); break;
    case CELL_REST_US: snprintf(out, NUMBER_MAX, "%" PRIu64, value % 1000000); break;
    case CELL_CLIENT: snprintf(out, NUMBER_MAX, "#c%" PRIu64, value); break;
    case CELL_HEX: snprintf(out, NUMBER_MAX, "0x%" PRIx64, value); break;
    default: snprintf(out, NUMBER_MAX, "%" PRIu64, value); break;
    }
}

static void put_cell(struct writer *out, enum cell cell, const uint8_t *at)
{
    char number[NUMBER_MAX];
    const char *text = number;

    switch (cell) {
    case CELL_TEXT: text = *(const char *const *)(const void *)at; break;
    case CELL_FLAG: text = *(const bool *)at ? "1" : "0"; break;
    case CELL_TRUTH: text = *(const bool *)at ? "true" : "false"; break;
    case CELL_ZERO:
    case CELL_INT_ZERO: text = "0"; break;
    case CELL_SERVER:
        snprintf(number, sizeof number, "0x%08" PRIX32, *(const uint32_t *)(const void *)at);
        break;
    case CELL_NUMBER:
    case CELL_INT:
    case CELL_SIGNED:
    case CELL_NUMBER_TEXT:
    case CELL_SECONDS:
    case CELL_WHOLE_SECONDS:
    case CELL_REST_US:
    case CELL_CLIENT:
    case CELL_HEX: print_number(number, cell, *(const uint64_t *)(const void *)at); break;
    }
    if (text == NULL)
        text = "";
    write_row_cell(out, text, strlen(text));
}

void table_row(const struct table *t, const void *row)
{
    write_row_begin(t->out, (uint16_t)t->count);
    for (size_t i = 0; i < t->count; i++)
        put_cell(t->out, t->columns[i].cell, (const uint8_t *)row + t->columns[i].offset);
    write_row_end(t->out);
}

struct list_row {
    const char *item;
};

void table_list(struct writer *out, const char *column, const char *const *items, size_t count)
{
    struct column columns[] = {COLUMN_AS(column, list_row, CELL_TEXT, item)};
    struct table t = TABLE(out, columns);

    table_head(&t);
    for (size_t i = 0; i < count; i++)
        table_row(&t, &(struct list_row){items[i]});
}
