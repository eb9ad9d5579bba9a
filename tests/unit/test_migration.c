/* Clients as PgDoorman 3.10 describes them: what it writes, what is damaged, what is too much. */
#include "actors/migration.h"
#include "tests/unit/unit.h"

static void put_u64(struct writer *w, uint64_t value)
{
    writer_u32(w, (uint32_t)(value >> 32));
    writer_u32(w, (uint32_t)value);
}

static void put_text(struct writer *w, const char *text)
{
    writer_u16(w, (uint16_t)strlen(text));
    writer_raw(w, text, strlen(text));
}

static void put_named(struct writer *w, const char *name, const char *query)
{
    writer_u8(w, 0);
    put_text(w, name);
    put_u64(w, 77);
    writer_u32(w, (uint32_t)strlen(query));
    writer_raw(w, query, strlen(query));
    writer_u16(w, 2);
    writer_u32(w, 23);
    writer_u32(w, 25);
}

static void put_anonymous(struct writer *w, uint64_t key, const char *query)
{
    writer_u8(w, 1);
    put_u64(w, key);
    put_u64(w, key);
    writer_u32(w, (uint32_t)strlen(query));
    writer_raw(w, query, strlen(query));
    writer_u16(w, 0);
}

static void put_head(struct writer *w, uint32_t magic, uint16_t version)
{
    writer_u32(w, magic);
    writer_u16(w, version);
}

/* Up to the prepared statements. */
static void put_client(struct writer *w)
{
    put_head(w, MIGRATION_MAGIC, MIGRATION_VERSION);
    put_u64(w, UINT64_C(0x100000007));
    writer_u32(w, 0x80000001);
    writer_u8(w, 1);
    put_text(w, "app");
    put_text(w, "joe");
    writer_u16(w, 5999);
    writer_u8(w, 9);
    writer_raw(w, "127.0.0.1", 9);
    writer_u16(w, 2);
    put_text(w, "application_name");
    put_text(w, "");
    put_text(w, "TimeZone");
    put_text(w, "Asia/Tokyo");
    writer_u8(w, 1);
    writer_u8(w, 0);
}

static struct bytes sample(struct writer *w)
{
    writer_init(w);
    put_client(w);
    writer_u32(w, 3);
    put_named(w, "s1", "select $1, $2");
    put_anonymous(w, UINT64_C(0xfedcba9876543210), "select 2");
    put_anonymous(w, 9, "");
    writer_u8(w, 0);
    writer_u8(w, MIGRATION_AUTH_KEY);
    writer_u16(w, 4);
    writer_raw(w, "k\0ey", 4);
    return (struct bytes){w->at, w->len};
}

#define TEXT_EQ(a, text) CHECK(bytes_equal(a, bytes_of(text)))

TEST(all_fields_of_a_client_are_read)
{
    struct writer w;
    struct failure why;
    struct migration_client c;

    EQ(migration_read(sample(&w), &c, &why), MIGRATION_READ, "%s", why.text);
    EQ(c.id, UINT64_C(0x100000007));
    EQ(c.secret, 0x80000001);
    CHECK(c.transaction_mode && c.prepared && !c.async && !c.tls);
    TEXT_EQ(c.database, "app");
    TEXT_EQ(c.user, "joe");
    EQ(c.port, 5999);
    TEXT_EQ(c.address, "127.0.0.1");
    EQ(c.auth, MIGRATION_AUTH_KEY);
    CHECK(bytes_equal(c.auth_value, (struct bytes){(const uint8_t *)"k\0ey", 4}));
    writer_free(&w);
}

TEST(parameters_and_statements_come_in_their_order)
{
    struct writer w;
    struct failure why;
    struct migration_client c;
    struct parameter p;
    struct migration_entry e;

    EQ(migration_read(sample(&w), &c, &why), MIGRATION_READ);
    struct cursor at = cursor_of(c.parameters.at, c.parameters.len);
    CHECK(migration_next_parameter(&at, &p));
    TEXT_EQ(p.name, "application_name");
    EQ(p.value.len, 0);
    CHECK(migration_next_parameter(&at, &p));
    TEXT_EQ(p.value, "Asia/Tokyo");
    CHECK(!migration_next_parameter(&at, &p));

    at = cursor_of(c.entries.at, c.entries.len);
    CHECK(migration_next_entry(&at, &e));
    CHECK(!e.anonymous);
    TEXT_EQ(e.name, "s1");
    TEXT_EQ(e.query, "select $1, $2");
    EQ(e.hash, 77);
    EQ(e.type_count, 2);
    EQ(load_be32(e.types.at + 4), 25);
    CHECK(migration_next_entry(&at, &e));
    CHECK(e.anonymous);
    CHECK(e.anonymous_key == UINT64_C(0xfedcba9876543210));
    CHECK(migration_next_entry(&at, &e));
    EQ(e.query.len, 0);
    CHECK(!migration_next_entry(&at, &e));
    writer_free(&w);
}

TEST(a_state_that_is_cut_off_is_refused_wherever)
{
    struct writer w;
    struct failure why;
    struct migration_client c;
    struct bytes whole = sample(&w);
    size_t without_auth = whole.len - 7; /* written by programs that do not know that field */

    for (size_t len = 0; len < whole.len; len++) {
        uint8_t *cut = malloc(len + 1);
        enum migration_result wanted = len < 6               ? MIGRATION_FOREIGN
                                       : len == without_auth ? MIGRATION_READ
                                                             : MIGRATION_REFUSED;

        memcpy(cut, whole.at, len);
        why.text[0] = '\0';
        EQ(migration_read((struct bytes){cut, len}, &c, &why), wanted, "%zu bytes", len);
        CHECK(wanted == MIGRATION_READ || why.text[0] != '\0', "%zu bytes", len);
        free(cut);
    }
    writer_free(&w);
    EQ(migration_read((struct bytes){NULL, 0}, &c, &why), MIGRATION_FOREIGN);
}

TEST(what_follows_is_ignored_and_an_unknown_secret_is_none)
{
    struct writer w;
    struct failure why;
    struct migration_client c;

    sample(&w);
    put_text(&w, "of a later version");
    EQ(migration_read((struct bytes){w.at, w.len}, &c, &why), MIGRATION_READ);
    EQ(c.auth, MIGRATION_AUTH_KEY);
    writer_free(&w);

    writer_init(&w);
    put_client(&w);
    writer_u32(&w, 0);
    writer_u8(&w, 1);
    writer_u8(&w, 99);
    EQ(migration_read((struct bytes){w.at, w.len}, &c, &why), MIGRATION_READ);
    EQ(c.auth, MIGRATION_AUTH_NONE);
    CHECK(c.tls);
    writer_free(&w);
}

TEST(other_formats_and_versions_are_told_apart)
{
    static const struct {
        uint32_t magic;
        uint16_t version;
        const char *why;
    } rows[] = {
        {MIGRATION_MAGIC, 1, "unsupported version 1"},
        {MIGRATION_MAGIC, 3, "unsupported version 3"},
        {0x50474d48, 2, "not the state of a client"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct writer w;
        struct failure why;
        struct migration_client c;

        sample(&w);
        store_be32(w.at, rows[i].magic);
        store_be16(w.at + 4, rows[i].version);
        EQ(migration_read((struct bytes){w.at, w.len}, &c, &why), MIGRATION_FOREIGN);
        STR_EQ(why.text, rows[i].why);
        writer_free(&w);
    }
}

/* Behind put_client(): what makes it refused. */
static void put_many(struct writer *w)
{
    writer_u32(w, MIGRATION_ENTRIES + 1);
    for (int i = 0; i <= MIGRATION_ENTRIES; i++)
        put_anonymous(w, (uint64_t)i, "");
}

static void put_long(struct writer *w)
{
    writer_u32(w, 11);
    for (int i = 0; i < 11; i++) {
        static char text[1 << 20];

        memset(text, 'x', sizeof text - 1);
        put_anonymous(w, (uint64_t)i, text);
    }
}

static void put_strange_kind(struct writer *w)
{
    writer_u32(w, 1);
    put_anonymous(w, 1, "select 1");
    w->at[w->len - 31] = 2;
}

static void put_negative_count(struct writer *w)
{
    writer_u32(w, 1);
    put_anonymous(w, 1, "select 1");
    store_be16(w->at + w->len - 2, 0xffff);
    for (int i = 0; i < 0xffff; i++)
        writer_u32(w, 23);
}

static void put_zero_byte(struct writer *w)
{
    writer_u32(w, 1);
    put_anonymous(w, 1, "select 1");
    w->at[w->len - 5] = '\0';
}

TEST(what_is_too_much_or_makes_no_sense_is_refused)
{
    static const struct {
        void (*put)(struct writer *w);
        const char *why;
    } rows[] = {
        {put_many, "100001 prepared statements, of which there may be 100000"},
        {put_long, "more than 10485760 bytes of prepared statements"},
        {put_strange_kind, "its prepared statements are damaged"},
        {put_negative_count, "its prepared statements are damaged"},
        {put_zero_byte, "a prepared statement has a zero byte"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct writer w;
        struct failure why;
        struct migration_client c;

        writer_init(&w);
        put_client(&w);
        rows[i].put(&w);
        writer_u8(&w, 0);
        writer_u8(&w, 0);
        CHECK(!w.failed);
        EQ(migration_read((struct bytes){w.at, w.len}, &c, &why), MIGRATION_REFUSED);
        STR_EQ(why.text, rows[i].why);
        writer_free(&w);
    }
}

static void copy_parts(const struct migration_client *c, struct writer *parameters,
                       struct writer *entries)
{
    struct cursor at = cursor_of(c->parameters.at, c->parameters.len);
    struct parameter parameter;
    struct migration_entry entry;

    while (migration_next_parameter(&at, &parameter))
        CHECK(migration_put_parameter(parameters, &parameter));
    at = cursor_of(c->entries.at, c->entries.len);
    while (migration_next_entry(&at, &entry))
        CHECK(migration_put_entry(entries, &entry));
}

TEST(what_is_read_is_written_the_same)
{
    struct writer in;
    struct writer parameters;
    struct writer entries;
    struct writer out;
    struct failure why;
    struct migration_client c;
    struct bytes state = sample(&in);

    writer_init(&parameters);
    writer_init(&entries);
    writer_init(&out);
    EQ(migration_read(state, &c, &why), MIGRATION_READ, "%s", why.text);
    copy_parts(&c, &parameters, &entries);
    c.parameters = (struct bytes){parameters.at, parameters.len};
    c.entries = (struct bytes){entries.at, entries.len};
    EQ(migration_write(&c, &out, &why), 0, "%s", why.text);
    CHECK(bytes_equal((struct bytes){out.at, out.len}, state));
    writer_free(&in);
    writer_free(&parameters);
    writer_free(&entries);
    writer_free(&out);
}

TEST(what_the_format_has_no_room_for_is_not_written)
{
    static uint8_t long_text[UINT16_MAX + 1];
    struct bytes fits = {long_text, UINT16_MAX};
    struct bytes too_long = {long_text, sizeof long_text};
    struct migration_client c = {.database = fits, .user = fits};
    struct failure why;
    struct writer out;

    writer_init(&out);
    CHECK(!migration_put_parameter(&out, &(struct parameter){fits, too_long}));
    CHECK(!migration_put_parameter(&out, &(struct parameter){too_long, fits}));
    CHECK(!migration_put_entry(&out, &(struct migration_entry){.name = too_long}));
    EQ(out.len, 0);
    CHECK(migration_put_parameter(&out, &(struct parameter){fits, fits}));
    EQ(out.len, 2 * (UINT16_MAX + 2));
    writer_free(&out);
    writer_init(&out);
    EQ(migration_write(&c, &out, &why), 0, "%s", why.text);
    writer_free(&out);
    writer_init(&out);
    c.user = too_long;
    EQ(migration_write(&c, &out, &why), -1);
    c.user = fits;
    c.address = (struct bytes){long_text, 256};
    EQ(migration_write(&c, &out, &why), -1);
    c.address.len = 255;
    c.entry_count = MIGRATION_ENTRIES + 1;
    EQ(migration_write(&c, &out, &why), -1);
    EQ(out.len, 0);
    writer_free(&out);
}
