/* Documents of the state that programs of each version of its schema wrote, and such as later
 * versions may write. Run from the top of the tree. tests/integration/record_golden.py records the
 * files; tests/integration/golden.py tells which sessions they have. */
#include "actors/state_internal.h"
#include "actors/upgrade_build.h"
#include "tests/unit/unit.h"

struct golden {
    char path[64];
    uint8_t bytes[65536];
    size_t len;
    struct state_document d;
};

static struct golden *golden_open(unsigned minor)
{
    struct golden *g = calloc(1, sizeof *g);

    INVARIANT(g != NULL);
    snprintf(g->path, sizeof g->path, "tests/golden/state-%u.%u.bin", STATE_MAJOR, minor);
    FILE *file = fopen(g->path, "rb");
    CHECK(file != NULL, "%s", g->path);
    if (file == NULL)
        return g;
    g->len = fread(g->bytes, 1, sizeof g->bytes, file);
    fclose(file);
    CHECK(g->len > STATE_DOCUMENT_HEAD && g->len < sizeof g->bytes, "%s", g->path);
    struct failure why = {0};
    EQ(state_read(&g->d, g->bytes, g->len, &why), 0, "%s: %s", g->path, why.text);
    if (!unit_failed())
        EQ(upgrade_build_check(&g->d, &why), 0, "%s: %s", g->path, why.text);
    return g;
}

static void golden_close(struct golden *g)
{
    state_read_free(&g->d);
    free(g);
}

static bool is(struct bytes found, const char *wanted)
{
    return bytes_equal(found, bytes_of(wanted));
}

/* By the name it gave itself. */
static const struct state_session *session_named(const struct golden *g, const char *name)
{
    static const struct state_session nobody;

    for (size_t i = 0; i < g->d.session_count; i++) {
        if (is(g->d.sessions[i].application_name, name))
            return &g->d.sessions[i];
    }
    CHECK(false, "%s has no session %s", g->path, name);
    return &nobody;
}

static const struct state_backend *backend_held_by(const struct golden *g, const char *name)
{
    static const struct state_backend none;
    const struct state_session *s = session_named(g, name);

    CHECK(s->backend != 0 && s->phase == STATE_PHASE_ACTIVE, "%s: %s", g->path, name);
    return s->backend == 0 ? &none : &g->d.backends[s->backend - 1];
}

static void expect_transactions(const struct golden *g)
{
    EQ(backend_held_by(g, "busy")->status, 'T', "%s", g->path);
    EQ(backend_held_by(g, "failed")->status, 'E', "%s", g->path);
    CHECK(session_named(g, "busy")->input.len == 9, "%s", g->path);
    EQ(session_named(g, "deferred")->begin_owed, 1, "%s", g->path);
    EQ(backend_held_by(g, "listening")->status, 'I', "%s", g->path);
    EQ(session_named(g, "listening")->mode, 1, "%s", g->path);
    CHECK(session_named(g, "copying")->flags & STATE_COPY_IN, "%s", g->path);
    CHECK(backend_held_by(g, "copying")->flags & STATE_BACKEND_COPY_IN, "%s", g->path);
    CHECK(backend_held_by(g, "changing")->flags & STATE_BACKEND_REPORTED, "%s", g->path);
    CHECK(session_named(g, "large")->body_left > 0, "%s", g->path);
    CHECK(backend_held_by(g, "running")->ledger.len > 0, "%s", g->path);
}

static void expect_statements(const struct golden *g)
{
    const struct state_session *idle = session_named(g, "idle");
    static const uint8_t nameless[] = "SELECT 'nameless'\0\0";

    EQ(idle->phase, STATE_PHASE_IDLE, "%s", g->path);
    CHECK(idle->statements.len > 0 && idle->unnamed != 0, "%s", g->path);
    if (idle->unnamed != 0)
        CHECK(bytes_equal(g->d.statements[idle->unnamed - 1].tail,
                          (struct bytes){nameless, sizeof nameless}),
              "%s", g->path);
}

static void expect_queue(const struct golden *g)
{
    const struct state_session *waiting = session_named(g, "waiting");

    EQ(waiting->phase, STATE_PHASE_WAITING, "%s", g->path);
    if (waiting->pool == 0)
        return;
    const struct state_pool *pool = &g->d.pools[waiting->pool - 1];
    CHECK(is(pool->database, "app") && is(pool->user, "plain_user"), "%s", g->path);
    struct unpacker u = unpacker_of(pool->waiters.at, pool->waiters.len);
    EQ(unpack_array(&u), 1, "%s", g->path);
    CHECK(unpack_array(&u) >= 3, "%s", g->path);
    EQ(unpack_uint(&u), waiting->id, "%s", g->path);
}

static const struct state_pool *pool_named(const struct golden *g, const char *database)
{
    for (size_t i = 0; i < g->d.pool_count; i++) {
        if (is(g->d.pools[i].database, database))
            return &g->d.pools[i];
    }
    return NULL;
}

/* What came with later versions is there from that one on, and has its default before. */
static void expect_additions(const struct golden *g, unsigned minor)
{
    const struct state_pool *looked_up = pool_named(g, "looked");
    const struct state_pool *busy = pool_named(g, "app");

    EQ(looked_up != NULL, minor >= 10, "%s", g->path);
    if (looked_up != NULL) {
        EQ(looked_up->dynamic, 1, "%s", g->path);
        CHECK(is(looked_up->secret, "plain secret"), "%s", g->path);
    }
    EQ(g->d.header.mock_secret.len, minor >= 10 ? 32 : 0, "%s", g->path);
    if (minor >= 11)
        CHECK(session_named(g, "prepared")->console.len > 0, "%s", g->path);
    CHECK(busy != NULL && (busy->times.len > 0) == (minor >= 12), "%s", g->path);
}

TEST(documents_of_each_version_are_read)
{
    for (unsigned minor = 0; minor <= STATE_MINOR; minor++) {
        struct golden *g = golden_open(minor);

        if (!unit_failed()) {
            EQ(g->d.minor, minor >= 12 ? minor : 0, "%s",
               g->path); /* which they did not tell yet */
            expect_transactions(g);
            expect_statements(g);
            expect_queue(g);
            expect_additions(g, minor);
        }
        golden_close(g);
    }
}

/* --- what later versions may write --- */

/* The file with `more`, which are so many pairs of keys and values, put into each record of each
 * section. */
static void add_to_records(const struct golden *g, struct packer *out, struct bytes more,
                           uint32_t more_pairs)
{
    packer_init(out);
    pack_raw(out, g->bytes, STATE_DOCUMENT_HEAD);
    for (size_t at = STATE_DOCUMENT_HEAD; at < g->len;) {
        const uint8_t *head = g->bytes + at;
        uint32_t len = load_be32(head + 4);
        struct unpacker u = unpacker_of(head + STATE_SECTION_HEAD, len);
        size_t section = out->len;
        uint32_t count = unpack_array(&u);

        pack_raw(out, head, STATE_SECTION_HEAD);
        pack_array(out, count);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t pairs = unpack_map(&u);

            pack_map(out, pairs + more_pairs);
            pack_raw(out, more.at, more.len);
            for (uint32_t pair = 0; pair < 2 * pairs; pair++) {
                struct bytes value = unpack_skip(&u);

                pack_raw(out, value.at, value.len);
            }
        }
        uint8_t *made = out->start + section;
        uint32_t body = (uint32_t)(out->len - section - STATE_SECTION_HEAD);
        store_be32(made + 4, body);
        store_be32(made + 8, state_crc32c(made + STATE_SECTION_HEAD, body));
        at += STATE_SECTION_HEAD + len;
    }
}

TEST(keys_of_a_later_version_are_skipped_in_every_record)
{
    struct golden *g = golden_open(STATE_MINOR);
    struct packer more;
    struct packer document;
    struct state_document d;
    struct failure why = {0};

    packer_init(&more);
    pack_uint(&more, 201);
    pack_str(&more, "later");
    pack_uint(&more, 100000);
    pack_map(&more, 1);
    pack_str(&more, "nested");
    pack_array(&more, 1);
    pack_nil(&more);
    pack_uint(&more, STATE_KEY_MUST_KNOW);
    pack_array(&more, 0);
    add_to_records(g, &document, (struct bytes){more.start, more.len}, 3);
    store_be16(document.start + 6, STATE_MINOR + 7);
    EQ(state_read(&d, document.start, document.len, &why), 0, "%s", why.text);
    EQ(upgrade_build_check(&d, &why), 0, "%s", why.text);
    EQ(d.minor, STATE_MINOR + 7);
    EQ(d.session_count, g->d.session_count);
    for (size_t i = 0; i < d.session_count && i < g->d.session_count; i++)
        CHECK(bytes_equal(d.sessions[i].application_name, g->d.sessions[i].application_name));
    state_read_free(&d);
    packer_free(&document);
    packer_free(&more);
    golden_close(g);
}

TEST(a_record_that_must_be_understood_and_is_not_is_refused)
{
    static const struct {
        uint64_t keys[2];
        const char *words; /* NULL: it is read */
    } rows[] = {
        {{3, 72}, NULL}, /* secret; commands of the console */
        {{3, 202}, "key 202 must be known"},
        {{UINT64_C(1) << 40, 3}, "key 1099511627776 must be known"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct state_writer out;
        struct state_header header = {.fds = 1, .sessions = 1};
        struct state_document d;
        struct failure why = {0};

        state_write_begin(&out);
        state_section_begin(&out, STATE_HEADER, true);
        state_put_header(&out, &header);
        state_section_end(&out);
        state_section_begin(&out, STATE_SESSIONS, true);
        pack_map(&out.out, 3);
        pack_uint(&out.out, 1); /* id */
        pack_uint(&out.out, 1);
        pack_uint(&out.out, STATE_KEY_MUST_KNOW);
        pack_array(&out.out, 2);
        pack_uint(&out.out, rows[i].keys[0]);
        pack_uint(&out.out, rows[i].keys[1]);
        pack_uint(&out.out, 4); /* descriptor */
        pack_uint(&out.out, 1);
        out.records = 1;
        state_section_end(&out);
        EQ(state_read(&d, out.out.start, out.out.len, &why), rows[i].words == NULL ? 0 : -1,
           "row %zu: %s", i, why.text);
        if (rows[i].words != NULL)
            CHECK(strstr(why.text, rows[i].words) != NULL, "%s", why.text);
        state_read_free(&d);
        state_write_free(&out);
    }
}

/* One value of the newest file is another. */
#define REFUSED(change, words)                                            \
    do {                                                                  \
        struct golden *g = golden_open(STATE_MINOR);                      \
        struct failure why = {0};                                         \
                                                                          \
        change;                                                           \
        EQ(upgrade_build_check(&g->d, &why), -1, #change);                \
        CHECK(strstr(why.text, words) != NULL, #change ": %s", why.text); \
        golden_close(g);                                                  \
    } while (0)

static struct bytes ledger_with(uint64_t kind, uint64_t whose)
{
    static struct packer list;

    list.len = 0;
    list.grows = true;
    pack_array(&list, 1);
    pack_array(&list, 10);
    pack_uint(&list, kind);
    pack_uint(&list, whose);
    pack_uint(&list, 0);
    pack_bin(&list, "", 0);
    for (int i = 4; i < 10; i++)
        pack_uint(&list, 0);
    return (struct bytes){list.start, list.len};
}

TEST(values_of_enumerations_that_are_not_known_are_refused)
{
    REFUSED(g->d.sessions[0].phase = 9, "phase 9");
    REFUSED(g->d.sessions[0].phase = UINT64_C(1) << 32, "phase 4294967296");
    REFUSED(g->d.sessions[1].transport = 2, "transport 2");
    REFUSED(g->d.sessions[2].mode = 3, "pool mode 3");
    REFUSED(g->d.pools[0].dynamic = 2, "origin of a pool's user 2");
    REFUSED(g->d.backends[0].status = 'X', "status 88");
    REFUSED(g->d.backends[0].ledger = ledger_with('z', 0), "requests under way");
    REFUSED(g->d.backends[0].ledger = ledger_with('Q', 4), "requests under way");
    struct golden *g = golden_open(STATE_MINOR);
    struct failure why = {0};
    g->d.backends[0].ledger = ledger_with('Q', 3);
    EQ(upgrade_build_check(&g->d, &why), 0, "%s", why.text);
    golden_close(g);
}
