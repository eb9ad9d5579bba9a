#include "actors/inspect_internal.h"
#include "tests/unit/unit.h"

/* What inspect prints, or its reason behind "error: ". Free it. */
static char *shown(const void *at, size_t len, bool json)
{
    struct failure why;
    char *text = NULL;
    size_t text_len;
    FILE *out = open_memstream(&text, &text_len);

    if (inspect_print(out, at, len, json, &why) != 0)
        fprintf(out, "error: %s", why.text);
    fclose(out);
    return text;
}

/* Without the comments on top. */
static const char *document(const char *text)
{
    while (*text == '#')
        text = strchr(text, '\n') + 1;
    return text;
}

#define BYTES(s) s, sizeof(s) - 1

TEST(values_print_as_yaml_and_json)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *yaml;
        const char *json;
    } rows[] = {
        {BYTES("\xc0"), "null\n", "null\n"},
        {BYTES("\xc3"), "true\n", "true\n"},
        {BYTES("\x7f"), "127\n", "127\n"},
        {BYTES("\xff"), "-1\n", "-1\n"},
        {BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615\n",
         "18446744073709551615\n"},
        {BYTES("\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808\n", "-9223372036854775808\n"},
        {BYTES("\xcb\x3f\xf8\0\0\0\0\0\0"), "1.5\n", "1.5\n"},
        {BYTES("\xca\x40\0\0\0"), "2.0\n", "2.0\n"},
        {BYTES("\xcb\x7f\xf8\0\0\0\0\0\0"), ".nan\n", "null\n"},
        {BYTES("\xcb\xff\xf0\0\0\0\0\0\0"), "-.inf\n", "null\n"},
        {BYTES("\xa0"), "\"\"\n", "\"\"\n"},
        {BYTES("\xa4idle"), "idle\n", "\"idle\"\n"},
        {BYTES("\xa4True"), "\"True\"\n", "\"True\"\n"},
        {BYTES("\xa3off"), "\"off\"\n", "\"off\"\n"},
        {BYTES("\xa2"
               "12"),
         "\"12\"\n", "\"12\"\n"},
        {BYTES("\xa4"
               "a: b"),
         "\"a: b\"\n", "\"a: b\"\n"},
        {BYTES("\xa3"
               "a #"),
         "\"a #\"\n", "\"a #\"\n"},
        {BYTES("\xa2"
               "a "),
         "\"a \"\n", "\"a \"\n"},
        {BYTES("\xa5"
               "a\n\"\\\x01"),
         "\"a\\n\\\"\\\\\\u0001\"\n", "\"a\\n\\\"\\\\\\u0001\"\n"},
        {BYTES("\xa3\xc3\xa9\xff"), "\"\xc3\xa9\\xff\"\n", "\"\xc3\xa9\\ufffd\"\n"},
        {BYTES("\xa3\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"\n", "\"\\ufffd\\ufffd\\ufffd\"\n"},
        {BYTES("\xa2\xc2\x85"), "\"\\u0085\"\n", "\"\\u0085\"\n"},
        {BYTES("\xc4\x04\x00\x01\x02\xff"), "!!binary \"AAEC/w==\"\n", "\"AAEC/w==\"\n"},
        {BYTES("\xd4\x05\x41"), "{ext: 5, data: !!binary \"QQ==\"}\n",
         "{\"ext\": 5, \"data\": \"QQ==\"}\n"},
        {BYTES("\x90"), "[]\n", "[]\n"},
        {BYTES("\x80"), "{}\n", "{}\n"},
        {BYTES("\x92\x01\xa1x"), "- 1\n- x\n", "[\n  1,\n  \"x\"\n]\n"},
        {BYTES("\x92\x92\x01\x02\x91\x90"), "- - 1\n  - 2\n- - []\n",
         "[\n  [\n    1,\n    2\n  ],\n  [\n    []\n  ]\n]\n"},
        {BYTES("\x82\xa1"
               "a\x01\xa1"
               "b\x81\xa1"
               "c\x92\x01\x80"),
         "a: 1\nb:\n  c:\n    - 1\n    - {}\n",
         "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": [\n      1,\n      {}\n    ]\n  }\n}\n"},
        {BYTES("\x91\x82\xa1"
               "a\x01\xa1"
               "b\xa1x"),
         "- {a: 1, b: x}\n", "[\n  {\n    \"a\": 1,\n    \"b\": \"x\"\n  }\n]\n"},
        {BYTES("\x91\x82\xa1"
               "a\x91\x01\xa1"
               "b\x02"),
         "- a:\n    - 1\n  b: 2\n",
         "[\n  {\n    \"a\": [\n      1\n    ],\n    \"b\": 2\n  }\n]\n"},
        {BYTES("\x83\x01\x02\xc0\x03\x91\x04\x05"), "1: 2\nnull: 3\n\"<list of 1>\": 5\n",
         "{\n  \"1\": 2,\n  \"null\": 3,\n  \"<list of 1>\": 5\n}\n"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *yaml = shown(rows[i].bytes, rows[i].len, false);
        char *json = shown(rows[i].bytes, rows[i].len, true);

        STR_EQ(document(yaml), rows[i].yaml, "row %zu", i);
        STR_EQ(json, rows[i].json, "row %zu", i);
        free(yaml);
        free(json);
    }
}

TEST(malformed_documents_have_a_reason)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *want;
    } rows[] = {
        {BYTES(""), "error: the file is empty"},
        {BYTES("\x92\x01"), "error: the document is cut off: 2 bytes are not enough"},
        {BYTES("\xa5"
               "ab"),
         "error: the document is cut off: 3 bytes are not enough"},
        {BYTES("\xdd\xff\xff\xff\xff"), "error: the document is cut off: 5 bytes are not enough"},
        {BYTES("\xdf\xff\xff\xff\xff\x01"),
         "error: the document is cut off: 6 bytes are not enough"},
        {BYTES("\xc6\xff\xff\xff\xff"), "error: the document is cut off: 5 bytes are not enough"},
        {BYTES("\xc9\xff\xff\xff\xff\x01"),
         "error: the document is cut off: 6 bytes are not enough"},
        {BYTES("\x91\xc1"), "error: not msgpack: the byte at 1 means nothing"},
        {BYTES("\x01\x02"), "error: 1 bytes follow the document's end at 1"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *text = shown(rows[i].bytes, rows[i].len, false);

        STR_EQ(text, rows[i].want, "row %zu", i);
        free(text);
    }
}

TEST(nesting_is_bounded)
{
    uint8_t deep[INSPECT_DEPTH_MAX + 2];

    memset(deep, 0x91, sizeof deep);
    deep[INSPECT_DEPTH_MAX] = 1;
    char *text = shown(deep, INSPECT_DEPTH_MAX + 1, true);
    CHECK(strncmp(text, "[\n", 2) == 0, "%s", text);
    free(text);
    deep[INSPECT_DEPTH_MAX] = 0x91;
    deep[INSPECT_DEPTH_MAX + 1] = 1;
    text = shown(deep, sizeof deep, true);
    STR_EQ(text, "error: nested deeper than 30 at byte 31");
    free(text);
}

static void put(msgpack_packer *p, const char *text)
{
    msgpack_pack_str_with_body(p, text, strlen(text));
}

static void put_actor(msgpack_packer *p, const char *type, uint64_t id, const char *state,
                      const char *key, uint64_t value)
{
    msgpack_pack_map(p, 4);
    put(p, "type");
    put(p, type);
    put(p, "id");
    msgpack_pack_uint64(p, id);
    put(p, "state");
    put(p, state);
    put(p, key);
    msgpack_pack_uint64(p, value);
}

TEST(snapshots_get_a_summary)
{
    msgpack_sbuffer buffer;
    msgpack_packer p;

    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&p, &buffer, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 7);
    put(&p, "format");
    put(&p, "pg_doorman snapshot");
    put(&p, "schema");
    msgpack_pack_int(&p, 1);
    put(&p, "version");
    put(&p, "3.10.7\n# forged");
    put(&p, "pid");
    msgpack_pack_int(&p, 42);
    put(&p, "workers");
    msgpack_pack_array(&p, 0);
    put(&p, "actors");
    msgpack_pack_array(&p, 5);
    put_actor(&p, "session", 1, "waiting", "wait_us", 1500000);
    put_actor(&p, "session", 2, "idle", "since_us", 7);
    put_actor(&p, "session", 3, "waiting", "wait_us", 5123000);
    put_actor(&p, "pool", 4, "open", "queue", 2);
    put_actor(&p, "pool", 5, "open", "queue", 0);
    put(&p, "flight");
    msgpack_pack_array(&p, 0);
    char *text = shown(buffer.data, buffer.size, false);
    static const char want[] = "# pg_doorman snapshot\n"
                               "# schema: 1\n"
                               "# version: 3.10.7?# forged\n"
                               "# taken_at: -\n"
                               "# pid: 42\n"
                               "# workers: 0\n"
                               "# actors: 5\n"
                               "#   pool             open             2\n"
                               "#   session          idle             1\n"
                               "#   session          waiting          2\n"
                               "# oldest waiter: session 3, for 5.123s\n"
                               "# queues: 2, together 2 waiting\n"
                               "# longest queue: pool 4, 2 waiting\n"
                               "# flight records: 0\n"
                               "format: pg_doorman snapshot\n";
    CHECK(strncmp(text, want, sizeof want - 1) == 0);
    CHECK(strstr(text, "  - {type: session, id: 2, state: idle, since_us: 7}\n") != NULL);
    free(text);
    msgpack_sbuffer_destroy(&buffer);
}
