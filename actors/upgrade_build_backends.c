/* From records to actors: server connections. */
#include "actors/upgrade_building.h"

#include "runtime/world.h"

#include <stdio.h>

static void build_ledger(struct building *b, struct backend *to, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);
    struct ledger *l = &to->ledger;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        enum ledger_kind kind = (enum ledger_kind)unpack_uint(&u);
        enum ledger_for whose = (enum ledger_for)unpack_uint(&u);
        struct ledger_entry *e = ledger_push(l, kind, whose);
        struct statement *statement = statement_of(b, unpack_uint(&u));
        struct bytes missing = unpack_bytes(&u);

        e->effect.leaves = (uint16_t)unpack_uint(&u);
        e->effect.clears = (uint16_t)unpack_uint(&u);
        e->effect.seen = (uint16_t)unpack_uint(&u);
        e->effect.setting = (uint32_t)unpack_uint(&u);
        uint64_t owns = unpack_uint(&u);
        e->marks = (uint8_t)(unpack_uint(&u) & ~(uint64_t)ENTRY_FIRST); /* not to be sent again */
        if (statement != NULL) {
            e->statement = statement_ref(statement);
            e->owns |= OWNS_STATEMENT;
        }
        if (owns & OWNS_TEXT) {
            e->missing = text_of(missing);
            e->owns |= OWNS_TEXT;
        }
        if (owns & OWNS_UNSURE)
            ledger_doubt(l, (owns & OWNS_HOLD) != 0);
        for (uint32_t at = 10; at < fields; at++)
            unpack_skip(&u);
    }
}

static void build_text_settings(struct backend *to, struct bytes packed)
{
    uint64_t numbers[3 + TEXT_SETTINGS];

    numbers_of(packed, numbers, COUNT_OF(numbers));
    to->digest[0] = numbers[0];
    to->digest[1] = numbers[1];
    to->digest_client = numbers[2];
    memcpy(to->text_base, numbers + 3, sizeof to->text_base);
}

static void build_backend_counters(struct backend *to, struct bytes packed)
{
#define X(name) &to->name,
    uint64_t *fields[] = {UPGRADE_BACKEND_COUNTERS(X)};
#undef X
    uint64_t numbers[COUNT_OF(fields)];

    numbers_of(packed, numbers, COUNT_OF(numbers));
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        *fields[i] = numbers[i];
}

static void build_tracked(struct backend *to, struct bytes packed)
{
    uint64_t numbers[PARAMETERS_TRACKED];

    numbers_of(packed, numbers, COUNT_OF(numbers));
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        to->tracked_before[i] = (uint32_t)numbers[i];
}

/* What lies on its connection, and what its clients have left there. */
static void build_state(struct building *b, struct backend *to, const struct state_backend *record)
{
    to->status = record->status == 0 ? 'I' : (char)record->status;
    if (record->stash.len > 0) {
        to->stash = buffer_of(record->stash);
        to->stash_len = (uint32_t)record->stash.len;
    }
    to->sequences_foreign = true; /* as far as is known here */
    if (record->flags & STATE_BACKEND_REMAPS) {
        uint64_t bound = MIN(to->effective->server_prepared_cache_size, (uint64_t)UINT32_MAX);

        to->statements = statement_set_new((uint32_t)bound);
        build_set(b, to->statements, record->statements, true);
    }
    to->applied = build_parameters(record->applied);
    to->cancels_sent = to->cancels_done = (uint32_t)record->cancels;
    build_tracked(to, record->tracked_before);
    build_ledger(b, to, record->ledger);
    build_text_settings(to, record->text_settings);
}

static void build_identity(struct backend *to, const struct state_backend *record)
{
    to->pid = (int32_t)record->pid;
    memcpy(to->key, record->key.at, record->key.len);
    to->key_len = (uint8_t)record->key.len;
    memcpy(&to->address, record->address.at, record->address.len);
    to->address_len = (socklen_t)record->address.len;
    pack_raw(&to->parameters, record->parameters.at, record->parameters.len);
    snprintf(to->application_name, sizeof to->application_name, "%.*s",
             (int)record->application_name.len, (const char *)record->application_name.at);
}

void build_backend(struct building *b, size_t i)
{
    const struct state_backend *record = &b->d->backends[i];
    struct pool *p = b->pools[record->pool - 1];

    if (p->removed && record->session == 0) {
        io_close(b->fds[record->fd - 1]);
        return;
    }
    struct backend *to = backend_new(b->w, p->shared, actor_id_of(&p->actor), p->config,
                                     p->effective);
    b->backends[i] = to;
    UPGRADE_BACKEND_NUMBERS(UPGRADE_ACTOR_NUMBER)
    UPGRADE_BACKEND_BITS(UPGRADE_ACTOR_BIT)
    build_identity(to, record);
    build_state(b, to, record);
    /* One that would be opened otherwise now serves whom it serves, and then no more. */
    to->epoch = b->opens_the_same[record->pool - 1] ? (uint32_t)record->epoch : p->epoch - 1;
    build_backend_counters(to, record->counters);
    conn_open(&to->conn, b->fds[record->fd - 1], &to->actor);
    conn_put_copy(b->w, &to->conn, record->output.at, record->output.len);
    b->built->backends++;
}
