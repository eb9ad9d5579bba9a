/* What a process has built from a document it would write down as the same document. */
#include "tests/simulation/processes.h"

#include "actors/upgrade_build.h"
#include "runtime/sim.h"

#include <stdio.h>
#include <stdlib.h>

/* Lists of what moves, in the document's order; the records then have the same numbers. */
static void list_sessions(struct upgrade_load *load, const struct state_document *d)
{
    size_t count;
    actor_id *list = actor_list(&session_type, &count);

    load->sessions = calloc(d->session_count + 1, sizeof *load->sessions);
    INVARIANT(load->sessions != NULL);
    load->session_count = d->session_count;
    for (size_t at = 0; at < d->session_count; at++) {
        for (size_t i = 0; i < count; i++) {
            struct session *s = session_of(actor_find(list[i]));

            if (s->number == d->sessions[at].number)
                load->sessions[at] = s;
        }
        INVARIANT(load->sessions[at] != NULL); /* as check_handoff.c has found */
        load->record_of[load->sessions[at]->actor.index] = (uint32_t)at + 1;
    }
    free(list);
}

static void list_backends(struct upgrade_load *load, const struct state_document *d)
{
    size_t count;
    actor_id *list = actor_list(&backend_type, &count);

    load->backends = calloc(d->backend_count + 1, sizeof *load->backends);
    INVARIANT(load->backends != NULL);
    load->backend_count = d->backend_count;
    for (size_t at = 0; at < d->backend_count; at++) {
        for (size_t i = 0; i < count; i++) {
            struct backend *b = backend_find(list[i]);

            if (b->number == d->backends[at].number)
                load->backends[at] = b;
        }
        INVARIANT(load->backends[at] != NULL);
        load->record_of[load->backends[at]->actor.index] = (uint32_t)at + 1;
    }
    free(list);
}

static void list_pools(struct upgrade_load *load, const struct state_document *d)
{
    size_t count;
    actor_id *list = actor_list(&pool_type, &count);

    load->pools = calloc(d->pool_count + 1, sizeof *load->pools);
    INVARIANT(load->pools != NULL);
    load->pool_count = d->pool_count;
    for (size_t at = 0; at < d->pool_count; at++) {
        for (size_t i = 0; i < count; i++) {
            struct pool *p = pool_of(actor_find(list[i]));

            if (bytes_equal(bytes_of(p->shared->user), d->pools[at].user) &&
                bytes_equal(bytes_of(p->shared->database), d->pools[at].database))
                load->pools[at] = p;
        }
        INVARIANT(load->pools[at] != NULL);
        load->record_of[load->pools[at]->actor.index] = (uint32_t)at + 1;
    }
    free(list);
}

/* --- field by field --- */

static void compare_number(const char *what, size_t id, const char *field, uint64_t a, uint64_t b)
{
    if (a != b)
        sim_fail("%s %zu: %s was %llu and comes back as %llu", what, id, field,
                 (unsigned long long)a, (unsigned long long)b);
}

static void compare_bytes(const char *what, size_t id, const char *field, struct bytes a,
                          struct bytes b)
{
    char text[2][400] = {"", ""};

    if (bytes_equal(a, b))
        return;
    for (size_t i = 0; i < MIN(a.len, (size_t)199); i++)
        snprintf(text[0] + 2 * i, 3, "%02x", a.at[i]);
    for (size_t i = 0; i < MIN(b.len, (size_t)199); i++)
        snprintf(text[1] + 2 * i, 3, "%02x", b.at[i]);
    sim_fail("%s %zu: %s comes back as another\n%s\n%s", what, id, field, text[0], text[1]);
}

#define COMPARE_U                compare_number
#define COMPARE_B                compare_bytes
#define COMPARE_T                compare_bytes
#define COMPARE_R                compare_bytes
#define COMPARE(key, type, name) COMPARE_##type(what, a->id, #name, a->name, b->name);

static void compare_statements(const struct state_statement *a, const struct state_statement *b)
{
    static const char what[] = "statement";

    STATE_STATEMENT_FIELDS(COMPARE)
}

static void compare_pools(const struct state_pool *a, const struct state_pool *b)
{
    static const char what[] = "pool";

    STATE_POOL_FIELDS(COMPARE)
}

static void compare_backends(const struct state_backend *a, const struct state_backend *b)
{
    static const char what[] = "backend";

    STATE_BACKEND_FIELDS(COMPARE)
}

static void compare_sessions(const struct state_session *a, const struct state_session *b)
{
    static const char what[] = "session";

    STATE_SESSION_FIELDS(COMPARE)
}

/* --- what may differ --- */

/* The time that the handoff took is added to what a wait may take. */
static struct bytes later(struct bytes waiters, uint64_t late_us, struct packer *out)
{
    struct unpacker u = unpacker_of(waiters.at, waiters.len);
    uint32_t count = waiters.len == 0 ? 0 : unpack_array(&u);

    packer_init(out);
    size_t mark = pack_array_open(out);
    for (uint32_t i = 0; i < count; i++) {
        INVARIANT(unpack_array(&u) == 3);
        pack_array(out, 3);
        pack_uint(out, unpack_uint(&u));
        pack_uint(out, unpack_uint(&u));
        pack_uint(out, unpack_uint(&u) + late_us);
    }
    pack_array_close(out, mark, count);
    return (struct bytes){out->start, out->len};
}

/* The new process takes references of its own, and does not send what went before once more. */
static struct bytes without_owners(struct bytes ledger, struct packer *out)
{
    struct unpacker u = unpacker_of(ledger.at, ledger.len);
    uint32_t count = ledger.len == 0 ? 0 : unpack_array(&u);

    packer_init(out);
    for (uint32_t i = 0; i < count; i++) {
        INVARIANT(unpack_array(&u) == 10);
        for (int field = 0; field < 3; field++)
            pack_uint(out, unpack_uint(&u));
        struct bytes missing = unpack_bytes(&u);
        pack_bin(out, missing.at, missing.len);
        for (int field = 4; field < 8; field++)
            pack_uint(out, unpack_uint(&u));
        pack_uint(out, unpack_uint(&u) & ~(uint64_t)OWNS_STATEMENT);
        pack_uint(out, unpack_uint(&u) & ~(uint64_t)ENTRY_FIRST);
    }
    return (struct bytes){out->start, out->len};
}

static void compare_ledgers(struct state_backend *a, struct state_backend *b)
{
    struct packer one;
    struct packer other;

    a->ledger = without_owners(a->ledger, &one);
    b->ledger = without_owners(b->ledger, &other);
    compare_bytes("backend", a->id, "ledger", a->ledger, b->ledger);
    b->ledger = a->ledger;
    compare_backends(a, b);
    packer_free(&one);
    packer_free(&other);
}

static void compare_documents(struct state_document *a, struct state_document *b)
{
    uint64_t late_us = a->session_count == 0 ? 0
                                             : b->sessions[0].query_us - a->sessions[0].query_us;

    for (size_t i = 0; i < a->statement_count; i++)
        compare_statements(&a->statements[i], &b->statements[i]);
    for (size_t i = 0; i < a->pool_count; i++) {
        struct packer waiters;

        a->pools[i].waiters = later(a->pools[i].waiters, late_us, &waiters);
        a->pools[i].failures = b->pools[i].failures; /* each process finds out for itself */
        a->pools[i].staying = b->pools[i].staying;   /* of the old process, which it leaves */
        a->pools[i].drains = b->pools[i].drains;
        if (a->pools[i].parameters_known == 0)
            a->pools[i].parameters = b->pools[i].parameters; /* old ones mean nothing */
        compare_pools(&a->pools[i], &b->pools[i]);
        packer_free(&waiters);
    }
    for (size_t i = 0; i < a->backend_count; i++)
        compare_ledgers(&a->backends[i], &b->backends[i]);
    for (size_t i = 0; i < a->session_count; i++) {
        a->sessions[i].query_us += late_us;
        if (a->sessions[i].wait.len > 0) /* its pool's word for since when counts from here on */
            a->sessions[i].wait = b->sessions[i].wait;
        compare_sessions(&a->sessions[i], &b->sessions[i]);
    }
}

/* Of what another configuration makes of it nothing is said. */
static bool same_configuration(const struct upgrade_load *load, const struct state_document *d)
{
    for (size_t i = 0; i < load->pool_count; i++) {
        uint8_t fingerprint[POOL_FINGERPRINT];

        if (load->pools[i]->effective == NULL)
            return false;
        pool_fingerprint(load->pools[i]->effective, fingerprint);
        if (!bytes_equal(d->pools[i].fingerprint, (struct bytes){fingerprint, sizeof fingerprint}))
            return false;
    }
    return true;
}

static uint32_t highest_index(void)
{
    const struct actor_type *types[] = {&session_type, &backend_type, &pool_type};
    uint32_t highest = 0;

    for (size_t i = 0; i < COUNT_OF(types); i++) {
        size_t count;
        actor_id *list = actor_list(types[i], &count);

        for (size_t at = 0; at < count; at++)
            highest = MAX(highest, actor_find(list[at])->index);
        free(list);
    }
    return highest;
}

void handoff_round_trip(struct state_document *before)
{
    struct upgrade_load load = {.record_size = highest_index() + 1};
    struct state_header header = before->header;
    struct state_document after = {.headed = false};
    struct state_writer out;
    struct failure why;

    if (before->header.round > 1) /* other statements, other counters are there already */
        return;
    load.record_of = calloc(load.record_size, sizeof *load.record_of);
    load.fds = calloc(before->session_count + before->backend_count + 1, sizeof *load.fds);
    INVARIANT(load.record_of != NULL && load.fds != NULL);
    list_pools(&load, before);
    list_backends(&load, before);
    list_sessions(&load, before);
    if (same_configuration(&load, before)) {
        state_write_begin(&out);
        upgrade_load_write(&load, &out, &header);
        if (state_read(&after, out.out.start, out.out.len, &why) != 0)
            sim_fail("what comes back cannot be read: %s", why.text);
        if (after.statement_count != before->statement_count)
            sim_fail("%zu statements come back as %zu", before->statement_count,
                     after.statement_count);
        compare_documents(before, &after);
        state_read_free(&after);
        state_write_free(&out);
    }
    upgrade_load_free(&load);
}
