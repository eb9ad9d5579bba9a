/* A client that PgDoorman 3.10 has handed over (actors/migration.h): it has logged in there, so
 * that all it needs here is a pool. Where auth_query must find that first, the client waits for it
 * like one that logs in; what it sends meanwhile is kept. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/session_login.h"

#include "actors/auth_query.h"
#include "actors/migration.h"
#include "actors/pool.h"
#include "auth/scram_keys.h"
#include "runtime/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>

static const struct parameter no_parameter;

/* --- its beginning --- */

static void peer_of(struct sockaddr_storage *out, int fd, bool local,
                    const struct migration_client *c)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    socklen_t len = sizeof *out;
    char text[INET6_ADDRSTRLEN];

    *out = (struct sockaddr_storage){.ss_family = AF_UNIX};
    if (local)
        return;
    snprintf(text, sizeof text, "%.*s", (int)MIN(c->address.len, sizeof text),
             (const char *)c->address.at);
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(c->port);
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(c->port);
    } else {
        (void)getpeername(fd, (struct sockaddr *)out, &len);
    }
}

/* Of several the last one. */
static struct bytes parameter_of(const struct migration_client *c, const char *name)
{
    struct cursor at = cursor_of(c->parameters.at, c->parameters.len);
    struct bytes found = {NULL, 0};

    for (struct parameter p = no_parameter; migration_next_parameter(&at, &p);) {
        if (bytes_equal(p.name, bytes_of(name)))
            found = p.value;
    }
    return found;
}

static char *text_of(struct bytes text)
{
    char *copy = strndup(text.len == 0 ? "" : (const char *)text.at, text.len);

    INVARIANT(copy != NULL);
    return copy;
}

static void take_names(struct session *s, const struct migration_client *c)
{
    char *user = text_of(c->user);
    char *database = text_of(c->database);
    char *application = text_of(parameter_of(c, "application_name"));

    session_set_names(s, user, database, application);
    free(user);
    free(database);
    free(application);
}

/* New clients get numbers behind those that came. */
static void raise_number(uint64_t number)
{
    uint64_t now = atomic_load(&app.connection_number);

    while (now < number && !atomic_compare_exchange_weak(&app.connection_number, &now, number))
        ;
}

void session_open_migrated(struct worker *w, int fd, bool local, uint8_t *state, size_t len)
{
    struct session *s = session_of(actor_new(&session_type, w->index));
    struct migration_client c;
    struct failure why;

    INVARIANT(migration_read((struct bytes){state, len}, &c, &why) == MIGRATION_READ);
    s->number = c.id;
    raise_number(c.id);
    store_be32((uint8_t *)&s->secret, c.secret);
    s->connected_us = s->query_us = w->now_us;
    s->mode = c.transaction_mode ? POOL_MODE_TRANSACTION : POOL_MODE_SESSION;
    s->flags = SESSION_COUNTED;
    s->flags |= local ? SESSION_LOCAL : 0;
    s->flags |= c.async ? SESSION_ASYNC : 0;
    s->flags |= atomic_load(&app.draining) ? SESSION_DRAIN : 0;
    s->migrated = true;
    atomic_fetch_add(&app.clients, 1);
    s->login = calloc(1, sizeof *s->login);
    INVARIANT(s->login != NULL);
    s->login->config = app_config();
    s->login->text = state;
    s->login->text_len = len;
    peer_of(&s->login->peer, fd, local, &c);
    take_names(s, &c);
    socket_options(fd, local, &s->login->config->general);
    conn_open(&s->conn, fd, &s->actor);
    log_info(SESSION_LOG(s) "migrated client accepted from %s", SESSION_ID(s), session_address(s));
    actor_launch(w, &s->actor); /* session_migrated_begin() */
}

/* --- what it brings --- */

/* Backends of a pool whose secret is a SCRAM verifier cannot be opened before some client has
 * proved itself: one did so there. */
static void take_key(struct pool_shared *shared, const struct migration_client *c)
{
    struct scram_verifier verifier;
    uint8_t stored[SCRAM_KEY];

    if (c->auth != MIGRATION_AUTH_KEY || c->auth_value.len != SCRAM_KEY)
        return;
    pthread_mutex_lock(&shared->lock);
    bool pending = shared->material == MATERIAL_PENDING && shared->verifier_known;
    verifier = shared->verifier;
    pthread_mutex_unlock(&shared->lock);
    if (!pending)
        return;
    scram_stored_key(stored, c->auth_value.at);
    if (!secret_equal(stored, sizeof stored, verifier.stored_key, sizeof verifier.stored_key))
        log_warn("[%s@%s] the key of a migrated client does not fit the secret any more",
                 shared->user, shared->database);
    else if (session_auth_promote(shared, &verifier, c->auth_value.at))
        log_info("[%s@%s] restored backend auth from migrated client", shared->user,
                 shared->database);
}

/* As if it had asked for them at its login. If there are more than that knows, those that drivers
 * rely on are among them. */
static void take_parameters(struct session *s, const struct migration_client *c)
{
    struct session_login *l = s->login;
    char name[PARAMETER_NAME_MAX];

    for (int turn = 0; turn < 2; turn++) {
        struct cursor at = cursor_of(c->parameters.at, c->parameters.len);

        for (struct parameter p = no_parameter;
             migration_next_parameter(&at, &p) &&
             l->parameter_count < (int)COUNT_OF(l->parameters);) {
            bool first = parameter_classify(p.name, name) == PARAMETER_TRACKED ||
                         bytes_equal(p.name, bytes_of("options"));

            if (first == (turn == 0))
                l->parameters[l->parameter_count++] = p;
        }
    }
    session_parameters_asked(s, config_pool(l->config, session_database(s)));
}

/* A reference for the caller; NULL: there is no room for its text. */
static struct statement *statement_of(struct pool_shared *shared, const struct migration_entry *e,
                                      struct writer *tail)
{
    tail->len = 0;
    writer_string_bytes(tail, e->query);
    writer_u16(tail, e->type_count);
    writer_raw(tail, e->types.at, e->types.len);
    INVARIANT(!tail->failed);
    struct statement_key key = statement_key_of(&shared->statements, STATEMENT_UNREAD,
                                                (struct bytes){tail->at, tail->len});
    key.may_exceed = true;
    return statement_get(&key);
}

static void take_statement(struct worker *w, struct session *s, const struct migration_entry *e,
                           struct writer *tail)
{
    struct statement *statement = statement_of(s->shared, e, tail);
    uint8_t kind = e->anonymous ? STATEMENT_ANONYMOUS : STATEMENT_NAMED;

    if (statement == NULL) {
        log_warn(SESSION_LOG(s) "no memory for a prepared statement", SESSION_ID(s));
        return;
    }
    atomic_fetch_or_explicit(&statement->kinds, kind, memory_order_relaxed);
    if (!e->anonymous) {
        statement_map_put(&s->statements, e->name, statement);
    } else {
        if (s->anonymous == NULL)
            s->anonymous = statement_set_new(UINT32_MAX);
        if (!statement_set_has(s->anonymous, statement))
            statement_set_restore_stamped(s->anonymous, statement, (uint32_t)(w->now_us / 1000000));
    }
    statement_unref(statement);
}

/* The unnamed statement itself does not come along: what was last parsed there is not told. */
static void take_statements(struct worker *w, struct session *s, const struct migration_client *c)
{
    struct cursor at = cursor_of(c->entries.at, c->entries.len);
    struct writer tail;

    writer_init(&tail);
    for (struct migration_entry e; migration_next_entry(&at, &e);) {
        if (e.anonymous || e.name.len > 0)
            take_statement(w, s, &e, &tail);
    }
    writer_free(&tail);
    session_trim_statements(w, s);
    s->anonymous_evictions = 0;
}

/* With its pool: from here on it is like any other that is idle. */
static void settle_in(struct worker *w, struct session *s)
{
    struct session_login *l = s->login;
    struct migration_client c;
    struct failure why;

    INVARIANT(migration_read((struct bytes){l->text, l->text_len}, &c, &why) == MIGRATION_READ);
    take_key(s->shared, &c);
    take_parameters(s, &c);
    take_statements(w, s, &c);
    session_go(s, SESSION_LOGIN);
    session_go(s, SESSION_IDLE);
    cancel_register((uint32_t)s->number, s->secret, actor_id_of(&s->actor));
    s->flags |= SESSION_LOGGED_IN;
    session_in_pool(s, 1);
    session_login_free(s);
    session_watch_limits(w, s);
}

/* --- its pool --- */

static void without_pool(struct worker *w, struct session *s)
{
    char text[512];

    snprintf(text, sizeof text, "No pool configured for database: %s, user: %s",
             session_database(s), session_user(s));
    session_login_refused(w, s, "3D000", text);
}

/* Of a user that auth_query finds, or all of whom are served by one. */
static bool is_there(struct pool_shared *shared)
{
    int origin = shared == NULL ? ORIGIN_NONE : atomic_load(&shared->origin);

    return (origin == ORIGIN_STATIC || origin == ORIGIN_SHARED) && atomic_load(&shared->pool) != 0;
}

void session_migrated_begin(struct worker *w, struct session *s)
{
    struct pool_shared *shared = directory_find(session_database(s), session_user(s));
    struct auth_query_state *state = auth_query_find(session_database(s));

    if (is_there(shared)) {
        s->shared = shared;
        settle_in(w, s);
    } else if (state == NULL) {
        without_pool(w, s);
    } else {
        session_lookup(w, s, state); /* session_migrated_found() */
    }
}

/* Nobody can be asked at this moment: an MD5 hash that the client brings is as good as one that was
 * found. */
static void believe(struct worker *w, const struct session *s)
{
    static const struct pair_list none;
    struct migration_client c;
    struct failure why;

    INVARIANT(migration_read((struct bytes){s->login->text, s->login->text_len}, &c, &why) ==
              MIGRATION_READ);
    if (c.auth != MIGRATION_AUTH_MD5)
        return;
    char *secret = text_of(c.auth_value);
    if (secret_kind(secret) == SECRET_MD5)
        pools_looked_up(w, session_database(s), session_user(s), secret, &none);
    OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

void session_migrated_found(struct worker *w, struct session *s, enum lookup_outcome outcome)
{
    if (outcome == LOOKUP_UNKNOWN) {
        without_pool(w, s);
        return;
    }
    s->shared = directory_find(session_database(s), session_user(s));
    bool known = s->shared != NULL && atomic_load(&s->shared->origin) != ORIGIN_NONE;
    if (outcome != LOOKUP_FOUND && !known) {
        believe(w, s);
        s->shared = directory_find(session_database(s), session_user(s));
        known = s->shared != NULL && atomic_load(&s->shared->origin) != ORIGIN_NONE;
    }
    if (!known)
        session_fatal(w, s, "58000", "Authentication service unavailable. Please try again later.",
                      true);
    else if (session_lookup_admit(w, s))
        settle_in(w, s);
}
