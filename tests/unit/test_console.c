/* The pure parts of the console's extended protocol: texts with parameters, formats of results. */
#include "actors/console.h"
#include "tests/unit/unit.h"

#include <stdlib.h>

TEST(numeric_is_sent_as_postgresql_does)
{
    static const struct {
        const char *text;
        uint16_t want[12]; /* digits, weight, sign, scale, groups */
    } rows[] = {
        {"0", {0, 0, 0, 0}},
        {"7", {1, 0, 0, 0, 7}},
        {"-1", {1, 0, 0x4000, 0, 1}},
        {"10000", {1, 1, 0, 0, 1}},
        {"12345678", {2, 1, 0, 0, 1234, 5678}},
        {"18446744073709551615", {5, 4, 0, 0, 1844, 6744, 737, 955, 1615}},
        {"0.5", {1, UINT16_MAX, 0, 1, 5000}},
        {"12.000345", {3, 0, 0, 6, 12, 3, 4500}},
        {"0.00001", {1, UINT16_MAX - 1, 0, 5, 1000}},
        {"300", {1, 0, 0, 0, 300}},
        {"120000.25", {3, 1, 0, 2, 12, 0, 2500}},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct writer out;
        struct cursor c;

        writer_init(&out);
        console_write_numeric(&out, bytes_of(rows[i].text));
        c = cursor_of(out.at, out.len);
        EQ(cursor_u32(&c), out.len - 4, "%s", rows[i].text);
        EQ(out.len - 4, 8 + 2 * rows[i].want[0], "%s", rows[i].text);
        for (size_t j = 0; cursor_left(&c) > 0; j++)
            EQ(cursor_u16(&c), rows[i].want[j], "%s, word %zu", rows[i].text, j);
        writer_free(&out);
    }
}

TEST(parameters_stand_for_databases_alone)
{
    static const struct {
        const char *text;
        int parameters; /* -1: refused */
        const char *filled;
    } rows[] = {
        {"SHOW POOLS", 0, NULL},
        {"PAUSE", 0, NULL},
        {"PAUSE app", 0, NULL},
        {"PAUSE $1", 1, "PAUSE \"a\"\"b\""},
        {" pause\t$1 ; ", 1, " pause\t\"a\"\"b\" ; "},
        {"RESUME $1", 1, "RESUME \"a\"\"b\""},
        {"RECONNECT $1;", 1, "RECONNECT \"a\"\"b\";"},
        {"/* $1 */ PAUSE /* $1 */ $1 -- $1", 1, "/* $1 */ PAUSE /* $1 */ \"a\"\"b\" -- $1"},
        {"-- $1\n;PAUSE $1/*$1*/;", 1, "-- $1\n;PAUSE \"a\"\"b\"/*$1*/;"},
        {"PAUSE $2", -1, NULL},
        {"PAUSE $1 $2", -1, NULL},
        {"SHOW $1", -1, NULL},
        {"SET log_level = $1", -1, NULL},
        {"$1", -1, NULL},
        {"PAUSE '$1'", 0, NULL},
        {"PAUSE \"$1\"", 0, NULL},
        {"PAUSE $x", 0, NULL},
        {"", 0, NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct failure why;
        unsigned count;
        int result = console_parameters(bytes_of(rows[i].text), &count, &why);

        EQ(result == 0 ? (int)count : -1, rows[i].parameters, "%s", rows[i].text);
        if (rows[i].filled == NULL)
            continue;
        char *filled = console_fill(rows[i].text, bytes_of("a\"b"));
        STR_EQ(filled, rows[i].filled);
        free(filled);
    }
}

TEST(commands_are_counted_and_known_by_their_rows)
{
    static const struct {
        const char *text;
        unsigned count;
        enum console_shape shape;
    } rows[] = {
        {"", 0, SHAPE_NOTHING},
        {" ; -- nothing", 0, SHAPE_NOTHING},
        {"SHOW POOLS", 1, SHAPE_ASK},
        {"/* now */ show pools;;", 1, SHAPE_ASK},
        {"select 1", 1, SHAPE_ASK},
        {"PAUSE; RESUME", 2, SHAPE_NOTHING},
        {"RELOAD", 1, SHAPE_NOTHING},
        {"SHUTDOWN", 1, SHAPE_SUCCESS},
        {"upgrade ;", 1, SHAPE_SUCCESS},
        {"SNAPSHOT", 1, SHAPE_SNAPSHOT},
        {"SELECT name FROM pg_catalog.pg_settings", 1, SHAPE_ASK},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        EQ(console_count(bytes_of(rows[i].text)), rows[i].count, "%s", rows[i].text);
        EQ(console_shape_of(bytes_of(rows[i].text)), rows[i].shape, "%s", rows[i].text);
    }
}
