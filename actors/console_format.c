/* Results of the console as the extended protocol wants them: formats per column. */
#include "actors/console.h"

#include <stdlib.h>

enum { OID_INT4 = 23, OID_NUMERIC = 1700, FORMAT_BINARY = 1, NULL_LEN = -1 };

/* A column's description behind its name: table, attribute, type, size, modifier, format. */
enum { COLUMN_TYPE_AT = 6, COLUMN_FORMAT_AT = 16, COLUMN_BYTES = 18 };

static uint16_t format_of(const struct console_portal *portal, unsigned column)
{
    if (portal == NULL || portal->format_count == 0)
        return 0;
    if (portal->format_count == 1)
        return portal->formats[0];
    return column < portal->format_count ? portal->formats[column] : 0;
}

void console_write_description(struct writer *out, struct bytes body,
                               const struct console_portal *portal)
{
    struct cursor c = cursor_of(body.at, body.len);
    uint16_t count = cursor_u16(&c);

    writer_begin(out, 'T');
    writer_u16(out, count);
    for (unsigned i = 0; i < count && !c.bad; i++) {
        writer_string_bytes(out, cursor_string(&c));
        struct bytes rest = cursor_bytes(&c, COLUMN_BYTES);
        if (rest.at == NULL)
            break;
        writer_raw(out, rest.at, COLUMN_FORMAT_AT);
        writer_u16(out, format_of(portal, i));
    }
    writer_end(out);
}

/* --- numeric --- */

/* Digits of base 10000 around the decimal point, as PostgreSQL's numeric_send. */
struct digits {
    uint16_t groups[32];
    unsigned count;
    int weight; /* of the first group */
    unsigned scale;
    bool negative;
};

static void add_group(struct digits *d, const char *text, size_t len)
{
    unsigned value = 0;

    for (size_t i = 0; i < 4; i++)
        value = value * 10 + (i < len ? (unsigned)(text[i] - '0') : 0);
    if (d->count < COUNT_OF(d->groups))
        d->groups[d->count++] = (uint16_t)value;
}

/* Whole digits are grouped from the point to the left, those of the fraction to the right. */
static void split_digits(struct digits *d, const char *whole, size_t whole_len,
                         const char *fraction, size_t fraction_len)
{
    size_t first = whole_len % 4;
    char padded[4] = "0000";

    d->weight = (int)((whole_len + 3) / 4) - 1;
    d->scale = (unsigned)fraction_len;
    if (first > 0) {
        memcpy(padded + 4 - first, whole, first);
        add_group(d, padded, 4);
    }
    for (size_t at = first; at < whole_len; at += 4)
        add_group(d, whole + at, 4);
    for (size_t at = 0; at < fraction_len; at += 4)
        add_group(d, fraction + at, MIN(fraction_len - at, (size_t)4));
}

/* Zeros at either end are not sent. */
static void trim(struct digits *d)
{
    unsigned zeros = 0;

    while (d->count > 0 && d->groups[d->count - 1] == 0)
        d->count--;
    while (zeros < d->count && d->groups[zeros] == 0)
        zeros++;
    memmove(d->groups, d->groups + zeros, (d->count - zeros) * sizeof d->groups[0]);
    d->count -= zeros;
    d->weight = d->count == 0 ? 0 : d->weight - (int)zeros;
}

void console_write_numeric(struct writer *out, struct bytes text)
{
    struct digits d = {.negative = text.len > 0 && text.at[0] == '-'};
    const char *whole = (const char *)text.at + d.negative;
    size_t len = text.len - d.negative;
    const char *point = memchr(whole, '.', len);
    size_t whole_len = point == NULL ? len : (size_t)(point - whole);

    split_digits(&d, whole, whole_len, point == NULL ? "" : point + 1,
                 point == NULL ? 0 : len - whole_len - 1);
    trim(&d);
    writer_u32(out, 8 + 2 * d.count);
    writer_u16(out, (uint16_t)d.count);
    writer_u16(out, (uint16_t)d.weight);
    writer_u16(out, d.negative && d.count > 0 ? 0x4000 : 0);
    writer_u16(out, (uint16_t)d.scale);
    for (unsigned i = 0; i < d.count; i++)
        writer_u16(out, d.groups[i]);
}

/* --- rows --- */

static void write_cell(struct writer *out, struct bytes cell, uint32_t type, uint16_t format)
{
    char number[16] = "";

    if (format == FORMAT_BINARY && type == OID_NUMERIC) {
        console_write_numeric(out, cell);
    } else if (format == FORMAT_BINARY && type == OID_INT4) {
        memcpy(number, cell.at, MIN(cell.len, sizeof number - 1));
        writer_u32(out, 4);
        writer_u32(out, (uint32_t)strtol(number, NULL, 10));
    } else {
        writer_u32(out, (uint32_t)cell.len);
        writer_raw(out, cell.at, cell.len);
    }
}

void console_write_row(struct writer *out, struct bytes row, struct bytes description,
                       const struct console_portal *portal)
{
    struct cursor columns = cursor_of(description.at, description.len);
    struct cursor cells = cursor_of(row.at, row.len);
    uint16_t count = cursor_u16(&cells);

    (void)cursor_u16(&columns);
    writer_begin(out, 'D');
    writer_u16(out, count);
    for (unsigned i = 0; i < count && !cells.bad; i++) {
        uint32_t len = cursor_u32(&cells);

        (void)cursor_string(&columns);
        struct bytes column = cursor_bytes(&columns, COLUMN_BYTES);
        if (len == (uint32_t)NULL_LEN) {
            writer_u32(out, len);
            continue;
        }
        struct bytes cell = cursor_bytes(&cells, len);
        uint32_t type = column.at == NULL ? 0 : load_be32(column.at + COLUMN_TYPE_AT);
        if (!cells.bad)
            write_cell(out, cell, type, format_of(portal, i));
    }
    writer_end(out);
}
