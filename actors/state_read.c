/* From bytes to records, and whether they make sense together. */
#include "actors/state_internal.h"

#include <stdlib.h>

#define STATE_RECORD_FIELD(key, type, member) \
    {key, STATE_FIELD_##type, (uint16_t)offsetof(STATE_RECORD, member)},
#define STATE_TABLE(name, NAME)                          \
    const struct state_field state_##name##_fields[] = { \
        STATE_##NAME##_FIELDS(STATE_RECORD_FIELD)};      \
    const size_t state_##name##_field_count = COUNT_OF(state_##name##_fields);
#define STATE_RECORD struct state_header
STATE_TABLE(header, HEADER)
#undef STATE_RECORD
#define STATE_RECORD struct state_statement
STATE_TABLE(statement, STATEMENT)
#undef STATE_RECORD
#define STATE_RECORD struct state_pool
STATE_TABLE(pool, POOL)
#undef STATE_RECORD
#define STATE_RECORD struct state_backend
STATE_TABLE(backend, BACKEND)
#undef STATE_RECORD
#define STATE_RECORD struct state_session
STATE_TABLE(session, SESSION)
#undef STATE_RECORD

/* --- records --- */

static void get_field(struct unpacker *u, uint8_t *record, const struct state_field *field)
{
    uint8_t *to = record + field->offset;

    switch ((enum state_field_type)field->type) {
    case STATE_FIELD_U: *(uint64_t *)(void *)to = unpack_uint(u); break;
    case STATE_FIELD_B:
    case STATE_FIELD_T: *(struct bytes *)(void *)to = unpack_bytes(u); break;
    case STATE_FIELD_R: *(struct bytes *)(void *)to = unpack_skip(u); break;
    }
}

/* NULL: nobody here knows it. */
static const struct state_field *find_field(const struct state_field *fields, size_t count,
                                            uint64_t key)
{
    for (size_t at = 0; at < count; at++) {
        if (fields[at].key == key)
            return &fields[at];
    }
    return NULL;
}

/* The first key of the record's list that is not known here; 0: none, which is no field's. */
static uint64_t find_missing(struct unpacker *u, const struct state_field *fields, size_t count)
{
    uint32_t length = unpack_array(u);
    uint64_t missing = 0;

    for (uint32_t i = 0; i < length && !u->bad; i++) {
        uint64_t key = unpack_uint(u);

        if (missing == 0 && find_field(fields, count, key) == NULL)
            missing = key;
    }
    return missing;
}

/* Keys that nobody here knows are stepped over, unless the record says that they must be known.
 * Returns such a key, or 0. */
static uint64_t get_record(struct unpacker *u, uint8_t *record, const struct state_field *fields,
                           size_t count)
{
    uint32_t pairs = unpack_map(u);
    uint64_t missing = 0;

    for (uint32_t i = 0; i < pairs && !u->bad; i++) {
        uint64_t key = unpack_uint(u);
        const struct state_field *field = find_field(fields, count, key);

        if (field != NULL)
            get_field(u, record, field);
        else if (key == STATE_KEY_MUST_KNOW)
            missing = find_missing(u, fields, count);
        else
            unpack_skip(u);
    }
    return missing;
}

static int fail_missing(unsigned kind, uint64_t key, struct failure *why)
{
    return fail(why,
                "a record in section %u of the state says that key %llu must be known, and it "
                "is not known here",
                kind, (unsigned long long)key);
}

struct section {
    uint16_t kind;
    bool critical;
    struct unpacker body;
};

/* All records of a section behind those that are there already (large kinds may be split). */
static int get_records(struct section *section, void **records, size_t *count, size_t size,
                       const struct state_field *fields, size_t field_count, struct failure *why)
{
    uint32_t more = unpack_array(&section->body);

    if (more == 0 && !section->body.bad)
        return 0;
    uint8_t *grown = realloc(*records, (*count + more + 1) * size);
    INVARIANT(grown != NULL);
    *records = grown;
    memset(grown + *count * size, 0, more * size);
    for (uint32_t i = 0; i < more && !section->body.bad; i++) {
        uint64_t missing = get_record(&section->body, grown + (*count)++ * size, fields,
                                      field_count);

        if (missing != 0)
            return fail_missing(section->kind, missing, why);
    }
    return section->body.bad ? fail(why, "section %u of the state does not parse", section->kind)
                             : 0;
}

#define GET(name, list, counter)                                                  \
    get_records(section, (void **)(void *)&d->list, &d->counter, sizeof *d->list, \
                state_##name##_fields, state_##name##_field_count, why)

static int get_section(struct state_document *d, struct section *section, struct failure *why)
{
    uint64_t missing;

    switch (section->kind) {
    case STATE_HEADER:
        if (unpack_array(&section->body) != 1)
            return fail(why, "the state has no header");
        missing = get_record(&section->body, (uint8_t *)&d->header, state_header_fields,
                             state_header_field_count);
        if (missing != 0)
            return fail_missing(section->kind, missing, why);
        d->headed = true;
        return section->body.bad ? fail(why, "the header of the state does not parse") : 0;
    case STATE_STATEMENTS: return GET(statement, statements, statement_count);
    case STATE_POOLS: return GET(pool, pools, pool_count);
    case STATE_BACKENDS: return GET(backend, backends, backend_count);
    case STATE_SESSIONS: return GET(session, sessions, session_count);
    default: break;
    }
    if (section->critical)
        return fail(why, "section %u of the state is not known here and must be", section->kind);
    return 0;
}

/* The next section of the document; false at its end, or when it is damaged. */
static bool next_section(const uint8_t **at, const uint8_t *end, struct section *section,
                         struct failure *why)
{
    if (*at == end)
        return false;
    if (end - *at < STATE_SECTION_HEAD) {
        fail(why, "the state is cut off");
        return false;
    }
    const uint8_t *head = *at;
    uint32_t len = load_be32(head + 4);
    const uint8_t *body = head + STATE_SECTION_HEAD;
    if ((size_t)(end - body) < len) {
        fail(why, "the state is cut off");
        return false;
    }
    section->kind = load_be16(head);
    section->critical = load_be16(head + 2) & STATE_CRITICAL;
    section->body = unpacker_of(body, len);
    if (state_crc32c(body, len) != load_be32(head + 8)) {
        fail(why, "section %u of the state is damaged", section->kind);
        return false;
    }
    *at = body + len;
    return true;
}

/* --- sense --- */

/* Ids are dense and in order, so that they are found by number. */
static bool resolves(uint64_t id, size_t count)
{
    return id >= 1 && id <= count;
}

static int take_fd(bool *used, uint64_t fds, uint64_t fd, struct failure *why)
{
    if (fd < 1 || fd > fds || used[fd - 1])
        return fail(why, "descriptor %llu of the state is missing or used twice",
                    (unsigned long long)fd);
    used[fd - 1] = true;
    return 0;
}

static int check_backends(const struct state_document *d, bool *used, struct failure *why)
{
    for (size_t i = 0; i < d->backend_count; i++) {
        const struct state_backend *b = &d->backends[i];

        if (b->id != i + 1 || !resolves(b->pool, d->pool_count) ||
            (b->session != 0 && (!resolves(b->session, d->session_count) ||
                                 d->sessions[b->session - 1].backend != b->id)))
            return fail(why, "server connection %zu of the state does not fit in", i + 1);
        if (take_fd(used, d->header.fds, b->fd, why) != 0)
            return -1;
    }
    return 0;
}

static int check_sessions(const struct state_document *d, bool *used, struct failure *why)
{
    for (size_t i = 0; i < d->session_count; i++) {
        const struct state_session *s = &d->sessions[i];
        bool active = s->phase == STATE_PHASE_ACTIVE;

        if (s->id != i + 1 || (s->pool != 0 && !resolves(s->pool, d->pool_count)) ||
            (s->unnamed != 0 && !resolves(s->unnamed, d->statement_count)) ||
            active != (s->backend != 0) ||
            (active && (!resolves(s->backend, d->backend_count) ||
                        d->backends[s->backend - 1].session != s->id)))
            return fail(why, "session %zu of the state does not fit in", i + 1);
        if (take_fd(used, d->header.fds, s->fd, why) != 0)
            return -1;
    }
    return 0;
}

static int check(const struct state_document *d, struct failure *why)
{
    const struct state_header *h = &d->header;

    if (!d->headed)
        return fail(why, "the state has no header");
    if (h->sessions != d->session_count || h->backends != d->backend_count ||
        h->pools != d->pool_count || h->statements != d->statement_count)
        return fail(why, "the state is not complete");
    if (h->fds > d->session_count + d->backend_count)
        return fail(why, "the state has descriptors without use");
    for (size_t i = 0; i < d->statement_count; i++) {
        if (d->statements[i].id != i + 1)
            return fail(why, "statement %zu of the state does not fit in", i + 1);
    }
    for (size_t i = 0; i < d->pool_count; i++) {
        if (d->pools[i].id != i + 1)
            return fail(why, "pool %zu of the state does not fit in", i + 1);
    }
    bool *used = calloc(h->fds + 1, sizeof *used);
    INVARIANT(used != NULL);
    int result = check_backends(d, used, why);
    if (result == 0)
        result = check_sessions(d, used, why);
    for (uint64_t i = 0; i < h->fds && result == 0; i++) {
        if (!used[i])
            result = fail(why, "the state has descriptors without use");
    }
    free(used);
    return result;
}

int state_read(struct state_document *d, const uint8_t *at, size_t len, struct failure *why)
{
    const uint8_t *end = at + len;
    struct section section;

    *d = (struct state_document){0};
    why->text[0] = '\0';
    if (len < STATE_DOCUMENT_HEAD || memcmp(at, "PGDH", 4) != 0)
        return fail(why, "this is not a state of pg_doorman");
    if (load_be16(at + 4) != STATE_MAJOR)
        return fail(why, "the state has version %u, and %u is known here", load_be16(at + 4),
                    STATE_MAJOR);
    d->minor = load_be16(at + 6);
    at += STATE_DOCUMENT_HEAD;
    while (next_section(&at, end, &section, why)) {
        if (get_section(d, &section, why) != 0)
            return -1;
    }
    if (why->text[0] != '\0')
        return -1;
    return check(d, why);
}

void state_read_free(struct state_document *d)
{
    free(d->statements);
    free(d->pools);
    free(d->backends);
    free(d->sessions);
    *d = (struct state_document){0};
}
