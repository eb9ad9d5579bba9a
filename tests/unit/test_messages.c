#include "proto/messages.h"
#include "tests/unit/unit.h"

/* Compares what was written with bytes in hexadecimal (blanks between them do not count). */
static void wrote(struct writer *w, const char *what, const char *want)
{
    char got[2048] = "";
    char plain[2048];
    size_t len = 0;

    CHECK(!w->failed, "%s", what);
    for (size_t i = 0; i < w->len; i++)
        snprintf(got + 2 * i, sizeof(got) - 2 * i, "%02x", w->at[i]);
    for (; *want != '\0'; want++)
        if (*want != ' ')
            plain[len++] = *want;
    plain[len] = '\0';
    STR_EQ(got, plain, "%s", what);
    writer_free(w);
    writer_init(w);
}

TEST(server_messages_have_their_documented_bytes)
{
    static const uint8_t key[] = {1, 2, 3, 4};
    static const struct column_spec columns[] = {{"a", 25}, {"b", 23}};
    struct bytes names[] = {bytes_of("_pq_.x")};
    struct writer w;

    writer_init(&w);
    write_authentication(&w, 0, NULL, 0);
    wrote(&w, "AuthenticationOk", "52 00000008 00000000");
    write_authentication(&w, 3, NULL, 0);
    wrote(&w, "AuthenticationCleartextPassword", "52 00000008 00000003");
    write_authentication(&w, 5, key, 4);
    wrote(&w, "AuthenticationMD5Password", "52 0000000c 00000005 01020304");
    write_sasl_mechanisms(&w);
    wrote(&w, "AuthenticationSASL", "52 00000017 0000000a 534352414d2d5348412d323536 00 00");
    write_parameter_status(&w, bytes_of("a"), bytes_of(""));
    wrote(&w, "ParameterStatus", "53 00000007 61 00 00");
    write_backend_key_data(&w, 7, key, 4);
    wrote(&w, "BackendKeyData", "4b 0000000c 00000007 01020304");
    write_ready_for_query(&w, 'I');
    wrote(&w, "ReadyForQuery", "5a 00000005 49");
    write_command_complete(&w, "SET");
    wrote(&w, "CommandComplete", "43 00000008 534554 00");
    write_error(&w, "FATAL", "28P01", "no");
    wrote(&w, "ErrorResponse",
          "45 0000001e 53 464154414c 00 56 464154414c 00 43 3238503031 00 4d 6e6f 00 00");
    write_notice(&w, "00000", "x");
    wrote(&w, "NoticeResponse",
          "4e 0000001f 53 4e4f54494345 00 56 4e4f54494345 00 43 3030303030 00 4d 78 00 00");
    write_negotiate_version(&w, 0, names, 1);
    wrote(&w, "NegotiateProtocolVersion", "76 00000013 00000000 00000001 5f70715f2e78 00");
    write_row_description(&w, columns, 2);
    wrote(&w, "RowDescription",
          "54 0000002e 0002 61 00 00000000 0000 00000019 ffff ffffffff 0000"
          "                 62 00 00000000 0000 00000017 0004 ffffffff 0000");
    write_row_begin(&w, 3);
    write_row_cell(&w, "ab", 2);
    write_row_cell(&w, NULL, 0);
    write_row_cell(&w, "", 0);
    write_row_end(&w);
    wrote(&w, "DataRow", "44 00000014 0003 00000002 6162 ffffffff 00000000");
}

TEST(client_messages_have_their_documented_bytes)
{
    static const uint8_t key[] = {1, 2, 3, 4};
    struct parameter list[] = {{bytes_of("user"), bytes_of("u")}, {bytes_of("o"), bytes_of("")}};
    struct writer w;

    writer_init(&w);
    write_startup(&w, PROTOCOL_3_0, list, 2);
    wrote(&w, "StartupMessage", "00000013 00030000 75736572 00 75 00 6f 00 00 00");
    write_cancel(&w, 7, key, 4);
    wrote(&w, "CancelRequest", "00000010 04d2162e 00000007 01020304");
    write_ssl_request(&w);
    wrote(&w, "SSLRequest", "00000008 04d2162f");
    write_query(&w, ";");
    wrote(&w, "Query", "51 00000006 3b 00");
    write_password(&w, "md5");
    wrote(&w, "PasswordMessage", "70 00000008 6d6435 00");
    write_sasl_initial(&w, "SCRAM-SHA-256", bytes_of("n,,n=,r=cNq8T2vYb0sPzLw4Rj7Xe1Ka"));
    wrote(&w, "SASLInitialResponse",
          "70 00000036 534352414d2d5348412d32353600 00000020"
          "6e2c2c6e3d2c723d634e713854327659623073507a4c7734526a375865314b61");
    write_sasl_initial(&w, "X", (struct bytes){NULL, 0});
    wrote(&w, "SASLInitialResponse without data", "70 0000000a 58 00 ffffffff");
    write_sasl_response(&w, bytes_of("ab"));
    wrote(&w, "SASLResponse", "70 00000006 6162");
    write_terminate(&w);
    wrote(&w, "Terminate", "58 00000004");
}

TEST(writer_fails_once_and_for_all)
{
    uint8_t room[8];
    struct writer w;

    writer_init_fixed(&w, room, sizeof(room));
    write_terminate(&w);
    CHECK(!w.failed);
    write_terminate(&w);
    CHECK(w.failed);
    writer_u8(&w, 1);
    writer_end(&w);
    CHECK(w.len <= sizeof(room));

    writer_init(&w);
    writer_string_bytes(&w, (struct bytes){(const uint8_t *)"a\0b", 3});
    CHECK(w.failed, "a NUL inside a string");
    writer_free(&w);
}

TEST(writer_grows_as_needed)
{
    static uint8_t block[100000];
    struct writer w;

    writer_init(&w);
    for (int i = 0; i < 3; i++) {
        writer_begin(&w, 'd');
        writer_raw(&w, block, sizeof(block));
        writer_end(&w);
    }
    CHECK(!w.failed);
    EQ(w.len, 3 * (sizeof(block) + 5));
    for (int i = 0; i < 3; i++)
        EQ(load_be32(w.at + (size_t)i * (sizeof(block) + 5) + 1), sizeof(block) + 4);
    writer_free(&w);
}

#define LAYOUT "invalid startup packet layout: expected terminator as last byte"

TEST(startup_is_read_as_strict_pairs)
{
    static const struct {
        const char *what;
        const char *body;
        size_t len;
        int want;
        const char *reason;
    } rows[] = {
        {"no pairs", "", 1, 0, NULL},
        {"one pair", "user\0u\0", 8, 1, NULL},
        {"empty value", "user\0\0a\0b\0", 11, 2, NULL},
        {"bytes above ASCII", "user\0\xd0\xb0\0", 9, 1, NULL},
        {"nothing at all", "", 0, -1, LAYOUT},
        {"no terminator", "user\0u", 7, -1, LAYOUT},
        {"last NUL missing", "user\0u", 6, -1, LAYOUT},
        {"name without value", "user\0u\0a", 9, -1, LAYOUT},
        {"bytes behind the terminator", "user\0u\0\0x", 9, -1, LAYOUT},
        {"NUL behind the terminator", "user\0u\0\0", 9, -1, LAYOUT},
        {"too many", "a\0b\0c\0d\0e\0f\0", 13, -1,
         "invalid startup packet: more than 2 parameters"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct parameter out[2];
        struct failure why = {""};

        EQ(read_startup((const uint8_t *)rows[i].body, rows[i].len, out, 2, &why), rows[i].want,
           "%s", rows[i].what);
        if (rows[i].reason != NULL)
            STR_EQ(why.text, rows[i].reason, "%s", rows[i].what);
    }
}

TEST(error_fields_are_found)
{
    static const char body[] = "SFEHLER\0VERROR\0C42601\0Mbad\0Ddetail\0Hhint\0Rscan\0Zother\0";
    struct error_fields e;

    EQ(read_error((const uint8_t *)body, sizeof(body), &e), 0);
    CHECK(bytes_equal(e.severity, bytes_of("FEHLER")));
    CHECK(bytes_equal(e.severity_fixed, bytes_of("ERROR")));
    CHECK(bytes_equal(e.sqlstate, bytes_of("42601")));
    CHECK(bytes_equal(e.message, bytes_of("bad")));
    CHECK(bytes_equal(e.detail, bytes_of("detail")));
    CHECK(bytes_equal(e.hint, bytes_of("hint")));
    CHECK(bytes_equal(e.routine, bytes_of("scan")));
    for (size_t cut = 0; cut < sizeof(body); cut++)
        EQ(read_error((const uint8_t *)body, cut, &e), -1, "%zu", cut);
    EQ(read_error((const uint8_t *)"", 1, &e), 0);
    CHECK(e.message.at == NULL);
}

TEST(parameter_status_is_one_pair)
{
    struct parameter p;

    EQ(read_parameter_status((const uint8_t *)"a\0b", 4, &p), 0);
    CHECK(bytes_equal(p.name, bytes_of("a")) && bytes_equal(p.value, bytes_of("b")));
    EQ(read_parameter_status((const uint8_t *)"a\0", 3, &p), 0);
    EQ(read_parameter_status((const uint8_t *)"a\0b", 3, &p), -1);
    EQ(read_parameter_status((const uint8_t *)"a\0b\0", 5, &p), -1);
    EQ(read_parameter_status((const uint8_t *)"\0b", 3, &p), -1);
}

TEST(password_fills_its_body)
{
    struct bytes p;

    EQ(read_password((const uint8_t *)"abc", 4, &p), 0);
    EQ(p.len, 3);
    EQ(read_password((const uint8_t *)"", 1, &p), 0);
    EQ(read_password((const uint8_t *)"", 0, &p), -1);
    EQ(read_password((const uint8_t *)"abc", 3, &p), -1);
    EQ(read_password((const uint8_t *)"abc\0", 5, &p), -1);
}

TEST(sasl_initial_needs_an_exact_length)
{
    static const struct {
        const char *what;
        const char *body;
        size_t len;
        int want;
    } rows[] = {
        {"data", "X\0\0\0\0\2ab", 8, 0},
        {"no data", "X\0\xff\xff\xff\xff", 6, 0},
        {"empty data", "X\0\0\0\0\0", 6, 0},
        {"length of 128 and more", "X\0\0\0\0\x80", 6, -1},
        {"too short a length", "X\0\0\0\0\1ab", 8, -1},
        {"too long a length", "X\0\0\0\0\3ab", 8, -1},
        {"no length", "X\0\0\0", 4, -1},
        {"data behind none",
         "X\0\xff\xff\xff\xff"
         "a",
         7, -1},
        {"no end of the name", "XXXX", 4, -1},
        {"empty", "", 0, -1},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct bytes mechanism;
        struct bytes data;

        EQ(read_sasl_initial((const uint8_t *)rows[i].body, rows[i].len, &mechanism, &data),
           rows[i].want, "%s", rows[i].what);
    }
}

TEST(sasl_mechanism_is_found_by_its_whole_name)
{
    static const struct {
        const char *list;
        size_t len;
        bool want;
    } rows[] = {
        {"SCRAM-SHA-256\0", 15, true},
        {"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", 34, true},
        {"SCRAM-SHA-256-PLUS\0", 20, false},
        {"SCRAM-SHA-256", 14, false},
        {"SCRAM-SHA-256\0\0", 16, false},
        {"", 1, false},
        {"", 0, false},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        EQ(read_sasl_offered((const uint8_t *)rows[i].list, rows[i].len, "SCRAM-SHA-256"),
           rows[i].want, "row %zu", i);
}

TEST(options_are_read_as_a_command_line)
{
    static const struct {
        const char *text;
        const char *want; /* name=value; ... or NULL when refused */
    } rows[] = {
        {"", ""},
        {"  \t\n", ""},
        {"-c a=b", "a=b;"},
        {"-ca=b", "a=b;"},
        {"--a=b", "a=b;"},
        {"--search-path=x,y -c  work-mem=1-2", "search_path=x,y;work_mem=1-2;"},
        {"-c a=b\\ c", "a=b c;"},
        {"-c a=b\\\\c\\-", "a=b\\c-;"},
        {"-c a=", "a=;"},
        {"-c a=b=c", "a=b=c;"},
        {"-c a=b\\", "a=b;"},
        {"-c", NULL},
        {"-c a", NULL},
        {"-c =b", NULL},
        {"--a", NULL},
        {"--", NULL},
        {"-", NULL},
        {"-B 100", NULL},
        {"a=b", NULL},
        {"-c a=1 -c b=2 -c c=3 -c d=4", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct parameter out[3];
        char scratch[128];
        char got[256] = "";
        size_t used = 0;
        int count = read_options(bytes_of(rows[i].text), scratch, out, COUNT_OF(out));

        for (int k = 0; k < count; k++)
            used += (size_t)snprintf(got + used, sizeof(got) - used, "%.*s=%.*s;",
                                     (int)out[k].name.len, (const char *)out[k].name.at,
                                     (int)out[k].value.len, (const char *)out[k].value.at);
        EQ(count < 0, rows[i].want == NULL, "%s", rows[i].text);
        if (rows[i].want != NULL)
            STR_EQ(got, rows[i].want, "%s", rows[i].text);
    }
}
