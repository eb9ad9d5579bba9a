/* From records to actors: sessions. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_building.h"

#include "actors/console.h"
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>

static void build_names(struct session *s, const struct state_session *record)
{
    struct bytes parts[] = {record->user, record->database, record->application_name,
                            record->address};
    uint16_t *places[] = {NULL, &s->database_at, &s->application_at, &s->address_at};
    size_t total = 0;

    for (size_t i = 0; i < COUNT_OF(parts); i++)
        total += parts[i].len + 1;
    s->key_more = (uint8_t)(record->secret.len - sizeof s->secret);
    s->name = calloc(1, total + s->key_more);
    INVARIANT(s->name != NULL && total < UINT16_MAX);
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (parts[i].len > 0)
            memcpy(s->name + at, parts[i].at, parts[i].len);
        if (places[i] != NULL)
            *places[i] = (uint16_t)at;
        at += parts[i].len + 1;
    }
    memcpy(s->name + total, record->secret.at + sizeof s->secret, s->key_more);
}

static void build_session_counters(struct session *to, struct bytes packed)
{
#define X(name) &to->name,
    uint64_t *fields[] = {UPGRADE_SESSION_COUNTERS(X)};
#undef X
    uint64_t numbers[COUNT_OF(fields)];

    numbers_of(packed, numbers, COUNT_OF(numbers));
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        *fields[i] = numbers[i];
}

/* One that has not said anything yet begins as if it had just come. */
static void build_start(struct building *b, struct session *s, const struct state_session *record)
{
    s->login = calloc(1, sizeof *s->login);
    INVARIANT(s->login != NULL);
    s->login->config = app_config();
    memcpy(&s->login->peer, record->peer.at, record->peer.len);
    login_enter(&s->login->entry, actor_id_of(&s->actor), b->w->now_us);
}

static enum session_phase phase_of(const struct state_session *record)
{
    switch ((enum state_phase)record->phase) {
    case STATE_PHASE_START: return SESSION_START;
    case STATE_PHASE_WAITING: return SESSION_WAITING;
    case STATE_PHASE_ACTIVE: return SESSION_BOUND;
    case STATE_PHASE_ADMIN: return SESSION_ADMIN;
    case STATE_PHASE_IDLE: break;
    }
    return SESSION_IDLE;
}

static void attach_backend(struct building *b, struct session *s,
                           const struct state_session *record)
{
    struct backend *to = b->backends[record->backend - 1];
    const struct state_backend *backend = &b->d->backends[record->backend - 1];

    s->backend = to;
    pool_adopt_backend(b->w, pool_of(actor_find(to->pool)), to, true);
    atomic_store_explicit(&to->conn.owner, &s->actor, memory_order_release);
    app_count_lease(b->w, 1);
    put_arrived(&s->actor, &to->conn, backend->input);
    b->built->in_transaction++;
}

/* Its name is gone from the configuration. */
static void without_pool(struct building *b, struct session *s)
{
    static const char words[] = "No pool configured for database: %s, user: %s";
    char text[256];
    struct writer out;

    snprintf(text, sizeof text, words, session_database(s), session_user(s));
    writer_init(&out);
    write_error(&out, "FATAL", "3D000", text);
    conn_put_copy(b->w, &s->conn, out.at, out.len);
    writer_free(&out);
    s->phase = SESSION_CLOSED;
    s->client = CLIENT_TOLD;
    actor_alarm(b->w, actor_id_of(&s->actor), b->w->now_us + 1000000, ++s->alarm);
    b->built->without_pool++;
}

/* Commands that were prepared on the console. Their order means nothing. */
static void build_console(struct session *s, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        struct bytes name = unpack_bytes(&u);
        struct bytes text = unpack_bytes(&u);
        struct console_statement *c = console_restore(s, text_of(name), text_of(text));

        c->parameters = (unsigned)unpack_uint(&u);
        uint32_t types = unpack_array(&u);
        for (uint32_t at = 0; at < types; at++)
            c->types[at] = (uint32_t)unpack_uint(&u);
        for (uint32_t at = 4; at < fields; at++)
            unpack_skip(&u);
    }
}

/* What it has said and prepared, and is to be told. */
static void build_content(struct building *b, struct session *s, const struct state_session *record)
{
    s->wanted = build_parameters(record->wanted);
    build_names(s, record);
    build_session_counters(s, record->counters);
    build_statement_names(b, s, record->statements);
    if (statement_of(b, record->unnamed) != NULL)
        s->unnamed = statement_ref(statement_of(b, record->unnamed));
    if (record->anonymous.len > 0) {
        s->anonymous = statement_set_new(UINT32_MAX);
        build_set(b, s->anonymous, record->anonymous, false);
    }
    if (s->phase == SESSION_ADMIN)
        build_console(s, record->console);
    if (record->input.len > 0) {
        s->in = buffer_of(record->input);
        s->in_end = (uint32_t)record->input.len;
        s->in_scanned = (uint32_t)record->scanned;
    }
    conn_open(&s->conn, b->fds[record->fd - 1], &s->actor);
    conn_put_copy(b->w, &s->conn, record->output.at, record->output.len);
}

static void build_flags(struct session *to, const struct state_session *record)
{
    uint32_t flags = SESSION_COUNTED;

#define X(here, there) flags |= record->flags & (there) ? (here) : 0;
    UPGRADE_SESSION_FLAGS(X)
#undef X
    if (record->transport == 1)
        flags |= SESSION_LOCAL;
    if (record->phase != STATE_PHASE_START)
        flags |= SESSION_LOGGED_IN;
    to->flags = (uint16_t)flags;
    UPGRADE_SESSION_BITS(UPGRADE_ACTOR_BIT)
    to->cancel_wanted = record->cancel_wanted != 0;
}

/* Its old process may have had a pool for it no more: this one may have it again. */
static struct pool *pool_of_session(struct building *b, const struct session *s,
                                    const struct state_session *record)
{
    if (record->pool != 0)
        return b->pools[record->pool - 1];
    struct pool_shared *shared = directory_find(session_database(s), session_user(s));
    struct actor *a = shared == NULL ? NULL : actor_find(atomic_load(&shared->pool));
    return a == NULL ? NULL : pool_of(a);
}

/* Without one it comes to the end of its transaction, if it is in one. */
static void join_pool(struct building *b, struct session *s, const struct state_session *record)
{
    struct pool *p = pool_of_session(b, s, record);

    if (p != NULL) {
        s->shared = p->shared;
        s->admitted = pools_stay(p);
        session_in_pool(s, 1);
    }
    if (record->backend != 0) {
        attach_backend(b, s, record);
        s->flags |= p->removed ? SESSION_DRAIN : 0;
    } else if (p == NULL || p->removed) {
        without_pool(b, s);
    }
}

void build_session(struct building *b, size_t i)
{
    const struct state_session *record = &b->d->sessions[i];
    uint16_t home = (uint16_t)(i % runtime_workers());
    struct session *to = session_of(actor_new(&session_type, home));

    b->sessions[i] = actor_id_of(&to->actor);
    UPGRADE_SESSION_NUMBERS(UPGRADE_ACTOR_NUMBER)
    build_flags(to, record);
    memcpy(&to->secret, record->secret.at, sizeof to->secret);
    to->phase = (uint8_t)phase_of(record);
    to->query_us = record->query_us + b->late_us;
    build_content(b, to, record);
    atomic_fetch_add(&app.clients, 1);
    actor_prime(&to->actor); /* what waits in its connections comes behind */
    if (to->phase == SESSION_START)
        build_start(b, to, record);
    else
        cancel_register((uint32_t)to->number, to->secret, b->sessions[i]);
    if (to->phase != SESSION_START && to->phase != SESSION_ADMIN)
        join_pool(b, to, record);
    log_debug(SESSION_LOG(to) "migrated client accepted from %s", SESSION_ID(to),
              session_address(to));
    b->built->sessions++;
}
