/* The state that one process hands to the next: as it was written, with what later versions may
 * add, and damaged. test_state_golden.c has what earlier versions wrote. */
#include "actors/state_internal.h"
#include "tests/unit/unit.h"

static struct bytes list_of(struct packer *p, const uint64_t *values, uint32_t count)
{
    packer_init(p);
    pack_array(p, count);
    for (uint32_t i = 0; i < count; i++)
        pack_uint(p, values[i]);
    return (struct bytes){p->start, p->len};
}

/* One of everything: a statement, a pool, an idle backend, one with its session, an idle session.
 */
static void write_sample(struct state_writer *out)
{
    struct packer numbers;
    struct packer totals;
    struct bytes one = list_of(&numbers, (const uint64_t[]){1}, 1);
    struct state_statement statement = {.id = 1,
                                        .number = 41,
                                        .used = 3,
                                        .tail = {(const uint8_t *)"select $1\0\0\1\0\0\0\27", 16}};
    struct state_pool pool = {.id = 1,
                              .database = bytes_of("app"),
                              .user = bytes_of("joe"),
                              .fingerprint = bytes_of("fingerprint"),
                              .epoch = 2,
                              .paused = 1,
                              .parameters_known = 1,
                              .idle = one,
                              .creations = 5};
    struct state_backend idle = {.id = 1,
                                 .pool = 1,
                                 .fd = 1,
                                 .pid = 1234,
                                 .key = bytes_of("key!"),
                                 .status = 'I',
                                 .statements = one,
                                 .number = 7};
    struct state_backend active = {.id = 2,
                                   .pool = 1,
                                   .fd = 2,
                                   .pid = 1235,
                                   .status = 'T',
                                   .session = 1,
                                   .input = bytes_of("bytes"),
                                   .body_left = UINT64_C(1) << 40};
    struct state_session bound = {.id = 1,
                                  .number = 99,
                                  .secret = bytes_of("1234"),
                                  .fd = 3,
                                  .phase = STATE_PHASE_ACTIVE,
                                  .pool = 1,
                                  .database = bytes_of("app"),
                                  .user = bytes_of("joe"),
                                  .backend = 2,
                                  .unnamed = 1,
                                  .flags = STATE_REMAP};
    struct state_session resting = {.id = 2,
                                    .number = 100,
                                    .secret = bytes_of("5678"),
                                    .fd = 4,
                                    .phase = STATE_PHASE_IDLE,
                                    .pool = 1,
                                    .input = bytes_of("Q"),
                                    .address = bytes_of("10.0.0.1:5")};
    struct state_header header = {.version = bytes_of("3.10.7"),
                                  .pid = 4711,
                                  .generation = 3,
                                  .frozen_us = 1000000,
                                  .fds = 4,
                                  .sessions = 2,
                                  .backends = 2,
                                  .pools = 1,
                                  .statements = 1,
                                  .round = 1,
                                  .next_connection = 101,
                                  .next_statement = 42,
                                  .next_backend = 8,
                                  .totals = list_of(&totals, (const uint64_t[]){9, 8, 7}, 3)};

    state_write_begin(out);
    state_section_begin(out, STATE_BACKENDS, true);
    state_put_backend(out, &idle);
    state_put_backend(out, &active);
    state_section_end(out);
    state_section_begin(out, STATE_SESSIONS, true);
    state_put_session(out, &bound);
    state_put_session(out, &resting);
    state_section_end(out);
    state_section_begin(out, STATE_POOLS, true);
    state_put_pool(out, &pool);
    state_section_end(out);
    state_section_begin(out, STATE_STATEMENTS, true);
    state_put_statement(out, &statement);
    state_section_end(out);
    state_section_begin(out, STATE_HEADER, true);
    state_put_header(out, &header);
    state_section_end(out);
    packer_free(&numbers);
    packer_free(&totals);
}

static void expect_sample(const uint8_t *at, size_t len, const char *what)
{
    struct state_document d;
    struct failure why = {0};

    EQ(state_read(&d, at, len, &why), 0, "%s: %s", what, why.text);
    if (!unit_failed()) {
        EQ(d.header.pid, 4711, "%s", what);
        EQ(d.header.generation, 3, "%s", what);
        EQ(d.header.next_statement, 42, "%s", what);
        EQ(d.session_count, 2, "%s", what);
        EQ(d.sessions[0].number, 99, "%s", what);
        EQ(d.sessions[0].phase, STATE_PHASE_ACTIVE, "%s", what);
        EQ(d.sessions[0].flags, STATE_REMAP, "%s", what);
        CHECK(bytes_equal(d.sessions[1].input, bytes_of("Q")), "%s", what);
        CHECK(bytes_equal(d.sessions[1].address, bytes_of("10.0.0.1:5")), "%s", what);
        EQ(d.sessions[1].scanned, 0, "%s", what);
        EQ(d.backend_count, 2, "%s", what);
        EQ(d.backends[0].pid, 1234, "%s", what);
        EQ(d.backends[1].body_left, INT64_C(1) << 40, "%s", what);
        EQ(d.pools[0].epoch, 2, "%s", what);
        CHECK(bytes_equal(d.pools[0].user, bytes_of("joe")), "%s", what);
        EQ(d.statements[0].number, 41, "%s", what);
        EQ(d.statements[0].tail.len, 16, "%s", what);
    }
    state_read_free(&d);
}

TEST(what_was_written_is_read)
{
    struct state_writer out;

    write_sample(&out);
    expect_sample(out.out.start, out.out.len, "what was just written");
    state_write_free(&out);
}

/* Patches the checksum of the section that begins at `head`. */
static void seal(uint8_t *head)
{
    store_be32(head + 8, state_crc32c(head + STATE_SECTION_HEAD, load_be32(head + 4)));
}

TEST(what_a_later_version_adds_is_skipped)
{
    struct state_writer out;

    write_sample(&out);
    state_section_begin(&out, (enum state_section)200, false);
    pack_str(&out.out, "a record of another kind");
    out.records = 1;
    state_section_end(&out);
    expect_sample(out.out.start, out.out.len, "another section");
    store_be16(out.out.start + 6, 77); /* minor version */
    expect_sample(out.out.start, out.out.len, "another minor version");
    state_write_free(&out);
}

TEST(keys_that_nobody_knows_are_skipped)
{
    struct state_writer out;
    struct state_document d;
    struct failure why;

    state_write_begin(&out);
    state_section_begin(&out, STATE_HEADER, true);
    pack_map(&out.out, 4);
    pack_uint(&out.out, 4);
    pack_uint(&out.out, 17);
    pack_uint(&out.out, 120); /* nested, of all kinds */
    pack_map(&out.out, 2);
    pack_str(&out.out, "a");
    pack_array(&out.out, 3);
    pack_nil(&out.out);
    pack_bool(&out.out, true);
    pack_int(&out.out, -5000000000);
    pack_str(&out.out, "b");
    pack_bin(&out.out, "xyz", 3);
    pack_uint(&out.out, 100000);
    pack_str(&out.out, "a key of many digits");
    pack_uint(&out.out, 5);
    pack_uint(&out.out, 18);
    out.records = 1;
    state_section_end(&out);
    EQ(state_read(&d, out.out.start, out.out.len, &why), 0, "%s", why.text);
    EQ(d.header.pid, 17);
    EQ(d.header.generation, 18);
    state_read_free(&d);
    state_write_free(&out);
}

static void expect_refused(const uint8_t *at, size_t len, const char *words)
{
    struct state_document d;
    struct failure why = {0};

    EQ(state_read(&d, at, len, &why), -1, "%s", words);
    CHECK(strstr(why.text, words) != NULL, "'%s' in '%s'", words, why.text);
    state_read_free(&d);
}

TEST(what_must_be_known_and_is_not_is_refused)
{
    struct state_writer out;

    write_sample(&out);
    state_section_begin(&out, (enum state_section)201, true);
    state_section_end(&out);
    expect_refused(out.out.start, out.out.len, "section 201");
    store_be16(out.out.start + 4, STATE_MAJOR + 1);
    expect_refused(out.out.start, out.out.len, "version");
    out.out.start[0] = 'X';
    expect_refused(out.out.start, out.out.len, "not a state");
    state_write_free(&out);
}

TEST(no_damaged_document_is_believed)
{
    struct state_writer out;
    struct state_document d;
    struct failure why;

    write_sample(&out);
    for (size_t cut = 0; cut < out.out.len; cut++) {
        uint8_t *copy = malloc(cut + 1);

        memcpy(copy, out.out.start, cut);
        EQ(state_read(&d, copy, cut, &why), -1, "cut at %zu", cut);
        state_read_free(&d);
        free(copy);
    }
    for (size_t at = STATE_DOCUMENT_HEAD; at < out.out.len; at++) {
        uint8_t before = out.out.start[at];

        out.out.start[at] ^= 0x40;
        /* The flag that says that a section is critical is not covered, nor needs to be. */
        if (state_read(&d, out.out.start, out.out.len, &why) == 0)
            CHECK(d.session_count == 2 && d.backend_count == 2 && d.pool_count == 1, "at %zu", at);
        state_read_free(&d);
        out.out.start[at] = before;
    }
    state_write_free(&out);
}

/* With right checksums, so that the records themselves are what is read. */
TEST(no_nonsense_in_records_harms)
{
    struct state_writer out;
    uint32_t seed = 12345;

    write_sample(&out);
    uint8_t *copy = malloc(out.out.len);
    for (int round = 0; round < 20000; round++) {
        struct state_document d;
        struct failure why;

        memcpy(copy, out.out.start, out.out.len);
        seed = seed * 1664525 + 1013904223;
        size_t at = STATE_DOCUMENT_HEAD + (seed >> 8) % (out.out.len - STATE_DOCUMENT_HEAD);
        seed = seed * 1664525 + 1013904223;
        copy[at] = (uint8_t)(seed >> 16);
        for (size_t head = STATE_DOCUMENT_HEAD; head + STATE_SECTION_HEAD <= out.out.len;) {
            uint32_t len = load_be32(copy + head + 4);

            if (len > out.out.len - head - STATE_SECTION_HEAD)
                break;
            seal(copy + head);
            head += STATE_SECTION_HEAD + len;
        }
        if (state_read(&d, copy, out.out.len, &why) == 0)
            CHECK(d.session_count == d.header.sessions, "round %d", round);
        state_read_free(&d);
    }
    free(copy);
    state_write_free(&out);
}

TEST(records_that_contradict_each_other_are_refused)
{
    struct state_writer out;
    struct state_session twice = {.id = 1, .fd = 1, .phase = STATE_PHASE_IDLE};
    struct state_session lonely = {.id = 1, .fd = 1, .phase = STATE_PHASE_ACTIVE, .backend = 1};
    struct state_header header = {.fds = 1, .sessions = 2};

    state_write_begin(&out);
    state_section_begin(&out, STATE_HEADER, true);
    state_put_header(&out, &header);
    state_section_end(&out);
    state_section_begin(&out, STATE_SESSIONS, true);
    state_put_session(&out, &twice);
    twice.id = 2;
    state_put_session(&out, &twice);
    state_section_end(&out);
    expect_refused(out.out.start, out.out.len, "used twice");
    state_write_free(&out);

    header.sessions = 1;
    state_write_begin(&out);
    state_section_begin(&out, STATE_HEADER, true);
    state_put_header(&out, &header);
    state_section_end(&out);
    state_section_begin(&out, STATE_SESSIONS, true);
    state_put_session(&out, &lonely);
    state_section_end(&out);
    expect_refused(out.out.start, out.out.len, "does not fit in");
    state_write_free(&out);
}

/* RFC 3720, appendix B.4. */
TEST(checksum_is_castagnolis)
{
    uint8_t bytes[32] = {0};

    CHECK(state_crc32c(bytes, 32) == 0x8a9136aa);
    memset(bytes, 0xff, 32);
    CHECK(state_crc32c(bytes, 32) == 0x62a8ab43);
    CHECK(state_crc32c((const uint8_t *)"123456789", 9) == 0xe3069283);
}
