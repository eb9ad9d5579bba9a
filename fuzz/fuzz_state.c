/* Any bytes as what a predecessor hands over: the reader refuses them, or all that it gives out
 * lies within them, and what it has read can be written down and reads back the same.
 *
 * Checksums keep random bytes from coming far, so the same bytes are also tried with each section's
 * checksum put right. */
#include "actors/state_internal.h"

#include <stdlib.h>

static void inside(struct bytes part, const uint8_t *at, size_t len)
{
    INVARIANT(part.len == 0 ||
              (part.at >= at && part.len <= len && part.at - at <= (ptrdiff_t)(len - part.len)));
}

#define INSIDE_U(name)
#define INSIDE_B(name)          inside(record->name, at, len);
#define INSIDE_T(name)          inside(record->name, at, len);
#define INSIDE_R(name)          inside(record->name, at, len);
#define INSIDE(key, type, name) INSIDE_##type(name)
#define X(name, NAME)                                                                           \
    static void inside_##name(const struct state_##name *record, const uint8_t *at, size_t len) \
    {                                                                                           \
        STATE_##NAME##_FIELDS(INSIDE)                                                           \
    }
STATE_RECORDS(X)
#undef X

static void everything_inside(const struct state_document *d, const uint8_t *at, size_t len)
{
    inside_header(&d->header, at, len);
    for (size_t i = 0; i < d->statement_count; i++)
        inside_statement(&d->statements[i], at, len);
    for (size_t i = 0; i < d->pool_count; i++)
        inside_pool(&d->pools[i], at, len);
    for (size_t i = 0; i < d->backend_count; i++)
        inside_backend(&d->backends[i], at, len);
    for (size_t i = 0; i < d->session_count; i++)
        inside_session(&d->sessions[i], at, len);
}

#define PUT_ALL(kind, name, list, count)   \
    state_section_begin(&w, kind, true);   \
    for (size_t i = 0; i < d->count; i++)  \
        state_put_##name(&w, &d->list[i]); \
    state_section_end(&w);

/* Written down, read and written down once more: the same bytes. */
static struct state_writer written(const struct state_document *d)
{
    struct state_writer w;

    state_write_begin(&w);
    state_section_begin(&w, STATE_HEADER, true);
    state_put_header(&w, &d->header);
    state_section_end(&w);
    PUT_ALL(STATE_STATEMENTS, statement, statements, statement_count)
    PUT_ALL(STATE_POOLS, pool, pools, pool_count)
    PUT_ALL(STATE_BACKENDS, backend, backends, backend_count)
    PUT_ALL(STATE_SESSIONS, session, sessions, session_count)
    INVARIANT(!w.out.failed);
    return w;
}

static void check_round_trip(const struct state_document *d)
{
    struct state_writer first = written(d);
    struct state_document again;
    struct failure why;

    INVARIANT(state_read(&again, first.out.start, first.out.len, &why) == 0);
    struct state_writer second = written(&again);
    INVARIANT(first.out.len == second.out.len &&
              memcmp(first.out.start, second.out.start, first.out.len) == 0);
    state_read_free(&again);
    state_write_free(&first);
    state_write_free(&second);
}

static void try(const uint8_t *data, size_t len)
{
    struct state_document d;
    struct failure why;

    if (state_read(&d, data, len, &why) == 0) {
        everything_inside(&d, data, len);
        check_round_trip(&d);
    } else {
        INVARIANT(why.text[0] != '\0');
    }
    state_read_free(&d);
}

/* Puts the checksums of all sections right. */
static void vouch(uint8_t *at, size_t len)
{
    for (size_t next = STATE_DOCUMENT_HEAD; next + STATE_SECTION_HEAD <= len;) {
        size_t body = next + STATE_SECTION_HEAD;
        uint32_t size = load_be32(at + next + 4);

        if (size > len - body)
            return;
        store_be32(at + next + 8, state_crc32c(at + body, size));
        next = body + size;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    try(data, len);

    uint8_t *copy = malloc(len + 1);
    INVARIANT(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    vouch(copy, len);
    try(copy, len);
    free(copy);
    return 0;
}
