/* The console's grammar and its tables; what it answers without a pooler around it. */
#include "actors/admin.h"
#include "tests/unit/unit.h"

/* "count|word|word" of each command in the text, with "/" between commands. */
static const char *parsed(const char *text)
{
    static char out[512];
    char scratch[512];
    struct bytes rest = bytes_of(text);
    struct admin_statement s;
    size_t len = 0;

    out[0] = '\0';
    while (admin_parse(&rest, &s, scratch)) {
        len += (size_t)snprintf(out + len, sizeof out - len, "%s%d", len == 0 ? "" : "/", s.count);
        for (int i = 0; i < s.count && i < ADMIN_WORDS; i++)
            len += (size_t)snprintf(out + len, sizeof out - len, "|%s", admin_word(&s, i));
    }
    return out;
}

TEST(texts_are_split_into_commands_and_words)
{
    static const struct {
        const char *what;
        const char *text;
        const char *want;
    } rows[] = {
        {"one command", "SHOW POOLS", "2|SHOW|POOLS"},
        {"nothing", "", ""},
        {"blanks", " \t\r\n ", ""},
        {"only a semicolon", ";", "0"},
        {"a blank behind the semicolon", "SHOW POOLS; ", "2|SHOW|POOLS"},
        {"several semicolons", "SHOW POOLS;;", "2|SHOW|POOLS/0"},
        {"two commands", "SHOW POOLS;show stats", "2|SHOW|POOLS/2|show|stats"},
        {"an assignment without blanks", "SET log_level='debug'", "4|SET|log_level|=|debug"},
        {"a semicolon in quotes", "PAUSE \"a;b\"; RESUME", "2|PAUSE|a;b/1|RESUME"},
        {"doubled quotes", "PAUSE \"a\"\"b\"", "2|PAUSE|a\"b"},
        {"quotes that do not end", "PAUSE 'a b", "2|PAUSE|a b"},
        {"an empty name", "PAUSE \"\"", "2|PAUSE|"},
        {"a comment to the end of the line", "SHOW -- POOLS\nSTATS", "2|SHOW|STATS"},
        {"a comment between", "SHOW/* not */POOLS", "2|SHOW|POOLS"},
        {"comments nest", "/* a /* b */ c */SHOW POOLS", "2|SHOW|POOLS"},
        {"a comment without an end", "SHOW POOLS /* ;", "2|SHOW|POOLS"},
        {"nothing but a comment", "-- SHOW POOLS", ""},
        {"more words than are kept", "a b c d e f g h i j", "10|a|b|c|d|e|f|g|h"},
        {"a dash is a character", "PAUSE a-b", "2|PAUSE|a-b"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        STR_EQ(parsed(rows[i].text), rows[i].want, "%s", rows[i].what);
}

TEST(set_takes_its_value_in_every_spelling)
{
    static const struct {
        const char *text;
        const char *want;
    } rows[] = {
        {"SET log_level = 'debug'", "debug"},
        {"SET log_level='debug'", "debug"},
        {"SET log_level=debug;", "debug"},
        {"SET log_level debug", "debug"},
        {"SET log_level TO debug", "debug"},
        {"SET log_level to 'debug' ;", "debug"},
        {"SET log_level TO'debug'", "debug"},
        {"SET log_level = \"debug\"", "debug"},
        {"SET log_level torn", "torn"},
        {"SET log_level = 'warn,pg_doorman::pool=debug'", "warn,pg_doorman::pool=debug"},
        {"SET log_level = warn,pg_doorman::pool=debug", "warn,pg_doorman::pool=debug"},
        {"SET log_level = ''", ""},
        {"SET log_level =", ""},
        {"SET log_level TO", ""},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char scratch[256];
        char value[256];
        struct bytes rest = bytes_of(rows[i].text);
        struct admin_statement s;

        CHECK(admin_parse(&rest, &s, scratch), "%s", rows[i].text);
        struct bytes found = admin_set_value(s.value);
        snprintf(value, sizeof value, "%.*s", (int)found.len, (const char *)found.at);
        STR_EQ(value, rows[i].want, "%s", rows[i].text);
    }
}

TEST(text_and_value_are_what_was_written)
{
    char scratch[256];
    char text[256];
    struct bytes rest = bytes_of("  SHOW  'A' b -- c\n ; rest");
    struct admin_statement s;

    CHECK(admin_parse(&rest, &s, scratch));
    snprintf(text, sizeof text, "%.*s", (int)s.text.len, (const char *)s.text.at);
    STR_EQ(text, "SHOW  'A' b");
    snprintf(text, sizeof text, "%.*s", (int)s.value.len, (const char *)s.value.at);
    STR_EQ(text, " b");
    CHECK(bytes_equal(rest, bytes_of(" rest")));
    CHECK(admin_word_is(&s, 0, "show") && !admin_word_is(&s, 1, "a b"));
    STR_EQ(admin_word(&s, 7), "");
}

/* --- tables --- */

struct sample {
    const char *text;
    uint64_t number;
    int64_t below;
    uint32_t id;
    bool yes;
};

static const struct column sample_columns[] = {
    COLUMN(sample, CELL_TEXT, text),
    COLUMN(sample, CELL_NUMBER, number),
    COLUMN(sample, CELL_INT, number),
    COLUMN(sample, CELL_SIGNED, below),
    COLUMN_AS("as_text", sample, CELL_NUMBER_TEXT, number),
    COLUMN_ZERO("zero"),
    {"int_zero", CELL_INT_ZERO, 0},
    COLUMN_AS("flag", sample, CELL_FLAG, yes),
    COLUMN_AS("truth", sample, CELL_TRUTH, yes),
    COLUMN_AS("seconds", sample, CELL_SECONDS, number),
    COLUMN_AS("whole", sample, CELL_WHOLE_SECONDS, number),
    COLUMN_AS("rest", sample, CELL_REST_US, number),
    COLUMN_AS("client", sample, CELL_CLIENT, number),
    COLUMN_AS("server", sample, CELL_SERVER, id),
    COLUMN_AS("hex", sample, CELL_HEX, number),
};

/* The cells of the DataRow at p, with bars between. */
static const char *cells(const uint8_t *p, size_t len)
{
    static char out[512];
    struct frame f;
    size_t used = 0;

    INVARIANT(frame_peek(&f, p, len, FRAME_LIMIT) == FRAME_WHOLE && f.type == 'D');
    struct cursor c = cursor_of(f.body, f.body_len);
    uint16_t count = cursor_u16(&c);
    out[0] = '\0';
    for (uint16_t i = 0; i < count; i++) {
        struct bytes cell = cursor_bytes(&c, cursor_u32(&c));

        used += (size_t)snprintf(out + used, sizeof out - used, "%s%.*s", i == 0 ? "" : "|",
                                 (int)cell.len, (const char *)cell.at);
    }
    CHECK(!c.bad && cursor_left(&c) == 0);
    return out;
}

TEST(rows_are_printed_by_their_columns)
{
    static const struct {
        struct sample row;
        const char *want;
    } rows[] = {
        {{"a", 12000345, -1, 42, true},
         "a|12000345|12000345|-1|12000345|0|0|1|true|12.000345|12|345|#c12000345|0x0000002A|"
         "0xb71c59"},
        {{NULL, 0, 0, 0, false}, "|0|0|0|0|0|0|0|false|0|0|0|#c0|0x00000000|0x0"},
        {{"", 500000, 7, 0xdeadbeef, false},
         "|500000|500000|7|500000|0|0|0|false|0.5|0|500000|#c500000|0xDEADBEEF|0x7a120"},
        {{"x", UINT64_MAX, INT64_MIN, 1, true},
         "x|18446744073709551615|18446744073709551615|-9223372036854775808|18446744073709551615|0|"
         "0|1|true|18446744073709.551615|18446744073709|551615|#c18446744073709551615|0x00000001|"
         "0xffffffffffffffff"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct writer out;
        struct table t = TABLE(&out, sample_columns);

        writer_init(&out);
        table_row(&t, &rows[i].row);
        CHECK(!out.failed);
        STR_EQ(cells(out.at, out.len), rows[i].want, "row %zu", i);
        writer_free(&out);
    }
}

TEST(heads_tell_names_and_types)
{
    static const uint32_t types[] = {25, 1700, 23,   1700, 25, 1700, 23, 25,
                                     25, 1700, 1700, 1700, 25, 25,   25};
    struct writer out;
    struct table t = TABLE(&out, sample_columns);
    struct frame f;

    writer_init(&out);
    table_head(&t);
    EQ(frame_peek(&f, out.at, out.len, FRAME_LIMIT), FRAME_WHOLE);
    EQ(f.type, 'T');
    struct cursor c = cursor_of(f.body, f.body_len);
    EQ(cursor_u16(&c), COUNT_OF(types));
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        CHECK(bytes_equal(cursor_string(&c), bytes_of(sample_columns[i].name)), "column %zu", i);
        cursor_bytes(&c, 6); /* table and attribute */
        EQ(cursor_u32(&c), types[i], "column %zu", i);
        cursor_bytes(&c, 8); /* width, modifier, format */
    }
    CHECK(!c.bad && cursor_left(&c) == 0);
    writer_free(&out);
}

/* --- what is answered without looking at anything --- */

/* The types of the messages that answer a text of tab completion, and the first cell. */
static bool completes(const char *text, char *first, size_t size)
{
    struct admin_run run = {.text = bytes_of(text)};
    struct frame head;

    writer_init(&run.out);
    bool known = admin_completion(&run);
    if (known && frame_peek(&head, run.out.at, run.out.len, FRAME_LIMIT) == FRAME_WHOLE) {
        size_t at = FRAME_HEADER + head.body_len;

        snprintf(first, size, "%s", cells(run.out.at + at, run.out.len - at));
    }
    writer_free(&run.out);
    arena_free(&run.arena);
    return known;
}

TEST(tab_completion_is_recognised_by_its_table)
{
    char first[64];

    CHECK(!completes("SHOW POOLS", first, sizeof first));
    CHECK(completes("SELECT name FROM pg_catalog.pg_settings", first, sizeof first));
    STR_EQ(first, "help");
    CHECK(completes("select unnest(enumvals) from pg_catalog.pg_settings", first, sizeof first));
    STR_EQ(first, "error");
    CHECK(completes("SELECT VARTYPE FROM pg_catalog.pg_settings", first, sizeof first));
    STR_EQ(first, "enum");
    CHECK(completes("SELECT name FROM pg_catalog.pg_settings WHERE context", first, sizeof first));
    STR_EQ(first, "log_level");
}

/* The tag of what a driver says by itself; "" when the console does not know it. */
static const char *tag_of(const char *text)
{
    static char tag[64];
    char scratch[256];
    struct admin_run run = {.text = bytes_of(text)};
    struct bytes rest = run.text;
    struct admin_statement s;
    struct frame f;

    tag[0] = '\0';
    writer_init(&run.out);
    INVARIANT(admin_parse(&rest, &s, scratch));
    if (admin_chatter(&run, &s)) {
        for (size_t at = 0; at < run.out.len; at += FRAME_HEADER + f.body_len) {
            INVARIANT(frame_peek(&f, run.out.at + at, run.out.len - at, FRAME_LIMIT) ==
                      FRAME_WHOLE);
            if (f.type == 'C')
                snprintf(tag, sizeof tag, "%s", (const char *)f.body);
        }
    }
    writer_free(&run.out);
    arena_free(&run.arena);
    return tag;
}

TEST(chatter_of_drivers_is_answered)
{
    static const struct {
        const char *text;
        const char *tag;
    } rows[] = {
        {"BEGIN", "BEGIN"},
        {"begin isolation level read committed", "BEGIN"},
        {"START TRANSACTION", "START TRANSACTION"},
        {"START", ""},
        {"COMMIT", "COMMIT"},
        {"END", "COMMIT"},
        {"ROLLBACK", "ROLLBACK"},
        {"DISCARD ALL", "DISCARD ALL"},
        {"DISCARD PLANS", ""},
        {"DEALLOCATE ALL", "DEALLOCATE ALL"},
        {"SELECT 1", "SELECT 1"},
        {"select version();", "SELECT 1"},
        {"SELECT 1, 2", ""},
        {"SELECT * FROM pg_class", ""},
        {"KILL app", ""},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        STR_EQ(tag_of(rows[i].text), rows[i].tag, "%s", rows[i].text);
}

TEST(session_parameters_are_known_from_others)
{
    CHECK(admin_is_session_parameter("client_encoding"));
    CHECK(admin_is_session_parameter("DateStyle"));
    CHECK(!admin_is_session_parameter("server_version"));
    CHECK(!admin_is_session_parameter("work_mem"));
    CHECK(!admin_is_session_parameter("log_level"));
}
