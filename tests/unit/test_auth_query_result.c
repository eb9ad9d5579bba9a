#include "actors/auth_query_result.h"
#include "proto/messages.h"
#include "tests/unit/unit.h"

enum { TEXT = 25, INT4 = 23, JSONB = 3802 };

struct answer {
    const char *what;
    const char *names[4]; /* up to NULL */
    uint32_t types[4];
    const char *cells[4];
    uint64_t rows;
    enum lookup_outcome outcome;
    const char *secret; /* of those that are found */
    const char *problem;
};

/* Bodies begin behind the type and the length. */
static const uint8_t *body(const struct writer *out)
{
    return out->at + 5;
}

static int give_columns(struct lookup_result *r, const struct answer *a)
{
    struct column_spec columns[4];
    size_t count = 0;
    struct writer out;

    while (count < 4 && a->names[count] != NULL) {
        columns[count] = (struct column_spec){a->names[count], a->types[count]};
        count++;
    }
    writer_init(&out);
    write_row_description(&out, columns, count);
    int result = lookup_result_columns(r, "anna", body(&out), out.len - 5);
    writer_free(&out);
    return result;
}

static int give_row(struct lookup_result *r, const struct answer *a)
{
    struct writer out;
    uint16_t count = 0;

    while (count < 4 && a->names[count] != NULL)
        count++;
    writer_init(&out);
    write_row_begin(&out, count);
    for (uint16_t i = 0; i < count; i++)
        write_row_cell(&out, a->cells[i], a->cells[i] == NULL ? 0 : strlen(a->cells[i]));
    write_row_end(&out);
    int result = lookup_result_row(r, body(&out), out.len - 5);
    writer_free(&out);
    return result;
}

static void judge(const struct answer *a)
{
    struct lookup_result r;
    enum lookup_outcome outcome = LOOKUP_FAILED;

    lookup_result_begin(&r);
    int result = give_columns(&r, a);
    for (uint64_t i = 0; i < a->rows && result == 0; i++)
        result = give_row(&r, a);
    if (result == 0)
        outcome = lookup_result_end(&r, "anna");
    EQ(outcome, a->outcome, "%s", a->what);
    if (outcome == LOOKUP_FOUND)
        STR_EQ(r.secret, a->secret, "%s", a->what);
    CHECK(strstr(r.problem.text, a->problem == NULL ? "" : a->problem) != NULL, "%s: %s", a->what,
          r.problem.text);
    lookup_result_free(&r);
}

TEST(the_secret_is_found_by_name_and_type)
{
    static const struct answer answers[] = {
        {"one column", {"x"}, {TEXT}, {"s"}, 1, LOOKUP_FOUND, "s", NULL},
        {"passwd wins",
         {"password", "passwd"},
         {TEXT, TEXT},
         {"a", "b"},
         1,
         LOOKUP_FOUND,
         "b",
         NULL},
        {"exact wins", {"PASSWD", "passwd"}, {TEXT, TEXT}, {"a", "b"}, 1, LOOKUP_FOUND, "b", NULL},
        {"any case", {"u", "PassWord"}, {TEXT, TEXT}, {"a", "b"}, 1, LOOKUP_FOUND, "b", NULL},
        {"type counts",
         {"passwd", "password"},
         {INT4, TEXT},
         {"1", "b"},
         1,
         LOOKUP_FOUND,
         "b",
         NULL},
        {"no row", {"passwd"}, {TEXT}, {NULL}, 0, LOOKUP_UNKNOWN, NULL, NULL},
        {"null", {"passwd"}, {TEXT}, {NULL}, 1, LOOKUP_UNKNOWN, NULL, NULL},
        {"empty", {"passwd"}, {TEXT}, {""}, 1, LOOKUP_UNKNOWN, NULL, NULL},
        {"rows",
         {"passwd"},
         {TEXT},
         {"s"},
         3,
         LOOKUP_FAILED,
         NULL,
         "query returned 3 rows for user 'anna', expected 0 or 1"},
        {"number",
         {"n"},
         {INT4},
         {"1"},
         1,
         LOOKUP_FAILED,
         NULL,
         "failed to read password from single-column result"},
        {"names",
         {"a", "b"},
         {TEXT, TEXT},
         {"1", "2"},
         1,
         LOOKUP_FAILED,
         NULL,
         "cannot find password column for user 'anna': expected column named 'passwd' or "
         "'password', or a single-column result; got columns: [a, b]"},
    };

    for (size_t i = 0; i < COUNT_OF(answers); i++)
        judge(&answers[i]);
}

TEST(bodies_that_do_not_parse_are_refused)
{
    static const uint8_t columns[] = {0, 1, 'p', 'a', 's', 's', 'w', 'd', 0, 0};
    static const uint8_t row[] = {0, 1, 0, 0, 0, 9, 's'};
    static const struct answer good = {"good", {"passwd"},   {TEXT}, {"s"},
                                       1,      LOOKUP_FOUND, "s",    NULL};
    struct lookup_result r;

    lookup_result_begin(&r);
    EQ(lookup_result_columns(&r, "anna", columns, sizeof columns), -1);
    lookup_result_free(&r);
    lookup_result_begin(&r);
    EQ(lookup_result_end(&r, "anna"), LOOKUP_FAILED, "no description came");
    EQ(give_columns(&r, &good), 0);
    EQ(lookup_result_row(&r, row, sizeof row), -1);
    lookup_result_free(&r);
}

/* --- startup_parameters --- */

struct overlay_row {
    const char *text;
    enum overlay_problem problem;
    const char *pairs; /* "name=value;" and so on */
};

static void check_overlay(const struct overlay_row *row)
{
    struct arena arena = {0};
    struct pair_list pairs;
    char told[512] = "";

    EQ(overlay_read(&arena, TEXT, row->text, strlen(row->text), &pairs), row->problem, "%s",
       row->text);
    for (size_t i = 0; i < pairs.count; i++) {
        size_t len = strlen(told);

        snprintf(told + len, sizeof told - len, "%s=%s;", pairs.items[i].name,
                 pairs.items[i].value);
    }
    STR_EQ(told, row->pairs, "%s", row->text);
    arena_free(&arena);
}

TEST(startup_parameters_are_an_object_of_strings)
{
    static const struct overlay_row rows[] = {
        {"", OVERLAY_GOOD, ""},
        {"{}", OVERLAY_GOOD, ""},
        {" { \"work_mem\" : \"5MB\" } ", OVERLAY_GOOD, "work_mem=5MB;"},
        {"{\"timezone\":\"UTC\",\"A.B\":\"\"}", OVERLAY_GOOD, "TimeZone=UTC;a.b=;"},
        {"{\"a\":\"1\",\"A\":\"2\"}", OVERLAY_GOOD, "a=2;"},
        {"{\"a\":\"\\u00e4\\ud83d\\ude00\\n\\\"\"}", OVERLAY_GOOD,
         "a=\xc3\xa4\xf0\x9f\x98\x80\n\";"},
        {"{\"a\":1,\"b\":\"2\"}", OVERLAY_INVALID_ENTRY, "b=2;"},
        {"{\"a\":[1,{\"x\":null}],\"b\":\"2\"}", OVERLAY_INVALID_ENTRY, "b=2;"},
        {"{\"a\":-1.5e+3,\"b\":true}", OVERLAY_INVALID_ENTRY, ""},
        {"{\"Role\":\"x\"}", OVERLAY_INVALID_ENTRY, ""},
        {"{\"_pq_.x\":\"x\"}", OVERLAY_INVALID_ENTRY, ""},
        {"{\"\":\"x\"}", OVERLAY_INVALID_ENTRY, ""},
        {"{\"1a\":\"x\"}", OVERLAY_INVALID_ENTRY, ""},
        {"{\"a b\":\"x\"}", OVERLAY_INVALID_ENTRY, ""},
        {"{\"a\":\"x\\u0000y\"}", OVERLAY_INVALID_ENTRY, ""},
        {"[]", OVERLAY_INVALID_SHAPE, ""},
        {"\"a\"", OVERLAY_INVALID_SHAPE, ""},
        {"null", OVERLAY_INVALID_SHAPE, ""},
        {"{", OVERLAY_INVALID_JSON, ""},
        {"{\"a\"", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"b\"", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"b\",}", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"b\"} x", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"\\x\"}", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"\\ud83d\"}", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"\\ud83d\\u0041\"}", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"\\u12", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"\\", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":\"\t\"}", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":01}", OVERLAY_INVALID_JSON, ""},
        {"{\"a\":1.}", OVERLAY_INVALID_JSON, ""},
        {"{'a':'b'}", OVERLAY_INVALID_JSON, ""},
        {"{a: b}", OVERLAY_INVALID_JSON, ""},
        {"tru", OVERLAY_INVALID_JSON, ""},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_overlay(&rows[i]);
}

TEST(startup_parameters_have_a_size_a_depth_and_a_type)
{
    static char text[20000];
    struct arena arena = {0};
    struct pair_list pairs;

    EQ(overlay_read(&arena, INT4, "1", 1, &pairs), OVERLAY_BAD_TYPE);
    EQ(overlay_read(&arena, JSONB, "{}", 2, &pairs), OVERLAY_GOOD);
    int len = snprintf(text, sizeof text, "{\"a\":\"%09479d\"}", 0);
    EQ(overlay_read(&arena, TEXT, text, (size_t)len, &pairs), OVERLAY_GOOD);
    EQ(pairs.count, 1);
    len = snprintf(text, sizeof text, "{\"a\":\"%09481d\"}", 0);
    EQ(overlay_read(&arena, TEXT, text, (size_t)len, &pairs), OVERLAY_OVERSIZE);
    EQ(pairs.count, 0);
    memset(text, '[', 5000);
    text[5000] = '\0';
    EQ(overlay_read(&arena, TEXT, text, 5000, &pairs), OVERLAY_INVALID_JSON);
    arena_free(&arena);
}
