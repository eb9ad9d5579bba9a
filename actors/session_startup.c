/* From the first packet to the login reply. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/session.h"

#include "actors/auth_query.h"
#include "actors/session_login.h"
#include "actors/version.h"
#include "runtime/log.h"
#include "runtime/world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>

enum { DECLINED_MAX = 4 };

void session_login_free(struct session *s)
{
    struct session_login *l = s->login;

    if (l == NULL)
        return;
    login_leave(&l->entry);
    config_unref(l->config);
    if (l->text != NULL)
        OPENSSL_cleanse(l->text, l->text_len);
    free(l->text);
    OPENSSL_cleanse(l, sizeof *l);
    free(l);
    s->login = NULL;
}

static const char *parameter(const struct session_login *l, const char *name)
{
    struct bytes wanted = bytes_of(name);
    const char *found = NULL;

    for (int i = 0; i < l->parameter_count; i++) {
        if (bytes_equal(l->parameters[i].name, wanted))
            found = (const char *)l->parameters[i].value.at; /* NUL-terminated in the packet */
    }
    return found;
}

static void address_text(const struct sockaddr_storage *peer, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN];

    if (peer->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)peer;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, ntohs(in->sin_port));
    } else if (peer->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)peer;

        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, ntohs(in->sin6_port));
    } else {
        snprintf(out, size, "unix:");
    }
}

/* One block for the four names and a long cancel key, since a session keeps them for its life. */
void session_set_names(struct session *s, const char *user, const char *database,
                       const char *application)
{
    char address[64];

    address_text(&s->login->peer, address, sizeof address);
    const char *parts[] = {user, database, application, address};
    size_t lens[4];
    size_t total = 0;
    for (int i = 0; i < 4; i++) {
        lens[i] = strlen(parts[i]) + 1;
        total += lens[i];
    }
    s->key_more = s->login->version >= PROTOCOL_3_2 ? SESSION_KEY - sizeof s->secret : 0;
    free(s->name);
    s->name = malloc(total + s->key_more);
    INVARIANT(s->name != NULL && total < UINT16_MAX);
    random_secret(s->name + total, s->key_more);
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        memcpy(s->name + at, parts[i], lens[i]);
        if (i == 1)
            s->database_at = (uint16_t)at;
        if (i == 2)
            s->application_at = (uint16_t)at;
        if (i == 3)
            s->address_at = (uint16_t)at;
        at += lens[i];
    }
}

void session_rename(struct session *s, const char *user)
{
    char *database = strdup(session_database(s));
    char *application = strdup(session_application(s));

    INVARIANT(database != NULL && application != NULL);
    session_set_names(s, user, database, application);
    free(database);
    free(application);
}

static void put_writer(struct worker *w, struct session *s, struct writer *out)
{
    INVARIANT(!out->failed);
    conn_put_copy(w, &s->conn, out->at, out->len);
    writer_free(out);
}

/* --- the login reply --- */

static void put_key_and_ready(struct session *s, struct writer *out)
{
    uint8_t key[SESSION_KEY];
    size_t len = session_key(s, key);

    write_backend_key_data(out, (uint32_t)s->number, key, len);
    write_ready_for_query(out, 'I');
}

static void log_connected(const struct session *s)
{
    if (s->login->config->general.log_client_connections)
        log_info(SESSION_LOG(s) "client connected from %s (%s)", SESSION_ID(s), session_address(s),
                 s->flags & SESSION_LOCAL ? "unix" : "plain");
}

static void logged_in(struct worker *w, struct session *s, struct writer *out)
{
    put_key_and_ready(s, out);
    put_writer(w, s, out);
    cancel_register((uint32_t)s->number, s->secret, actor_id_of(&s->actor));
    s->flags |= SESSION_LOGGED_IN;
    session_in_pool(s, 1);
    s->query_us = w->now_us;
    log_connected(s);
    atomic_fetch_add(&app.connections_plain, 1);
    session_login_free(s);
}

static void take_parameters(struct worker *w, struct session *s, struct message *m)
{
    struct msg_POOL_PARAMETERS p = message_get_POOL_PARAMETERS(m);
    struct writer out;

    s->flags &= (uint16_t)~SESSION_ASKED;
    if (s->phase != SESSION_LOGIN)
        return;
    session_parameters_asked(s, config_pool(s->login->config, session_database(s)));
    writer_init(&out);
    write_authentication(&out, 0, NULL, 0);
    session_parameters_write(s, p.pairs, &out);
    session_go(s, SESSION_IDLE);
    if (s->login->found != NULL)
        atomic_fetch_add(&s->login->found->counters.success, 1);
    logged_in(w, s, &out);
    session_watch_limits(w, s);
}

/* A client may have sent its first query behind the password. */
static void go_on(struct worker *w, struct session *s)
{
    if (s->phase == SESSION_IDLE && s->in != NULL)
        session_on_client_input(w, s);
}

void session_on_parameters(struct worker *w, struct session *s, struct message *m)
{
    take_parameters(w, s, m);
    go_on(w, s);
}

static void login_admin(struct worker *w, struct session *s)
{
    static const struct parameter fixed[] = {
        {{(const uint8_t *)"server_version", 14},
         {(const uint8_t *)"17.0 (pg_doorman " DOORMAN_VERSION ")",
          sizeof "17.0 (pg_doorman " DOORMAN_VERSION ")" - 1}},
        {{(const uint8_t *)"server_encoding", 15}, {(const uint8_t *)"UTF8", 4}},
        {{(const uint8_t *)"client_encoding", 15}, {(const uint8_t *)"UTF8", 4}},
        {{(const uint8_t *)"DateStyle", 9}, {(const uint8_t *)"ISO, MDY", 8}},
        {{(const uint8_t *)"TimeZone", 8}, {(const uint8_t *)"Etc/UTC", 7}},
        {{(const uint8_t *)"standard_conforming_strings", 27}, {(const uint8_t *)"on", 2}},
        {{(const uint8_t *)"integer_datetimes", 17}, {(const uint8_t *)"on", 2}},
    };
    struct writer out;

    writer_init(&out);
    write_authentication(&out, 0, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        write_parameter_status(&out, fixed[i].name, fixed[i].value);
    write_parameter_status(&out, bytes_of("application_name"), bytes_of(session_application(s)));
    session_go(s, SESSION_ADMIN);
    logged_in(w, s, &out);
}

/* The client is who it says. Now the pool must have seen the server once. */
void session_authenticated(struct worker *w, struct session *s)
{
    if (s->login->admin) {
        login_admin(w, s);
        return;
    }
    if (s->login->found != NULL && !session_lookup_admit(w, s))
        return;
    uint64_t wait_ms = s->login->config->general.query_wait_timeout;
    struct message request = {0};
    struct message reply = {0};
    struct msg_POOL_LOGIN want = {.ticket = ++s->ticket, .deadline_us = w->now_us + wait_ms * 1000};

    s->mode = (uint8_t)atomic_load(&s->shared->mode);
    session_go(s, SESSION_LOGIN);
    s->asked_us = w->now_us;
    s->flags |= SESSION_ASKED;
    message_put_POOL_LOGIN(&request, &want);
    switch (actor_ask(w, &s->actor, atomic_load(&s->shared->pool), &request, &reply)) {
    case ASK_ANSWERED: /* mostly: the whole login reply then leaves in one piece */
        take_parameters(w, s, &reply);
        message_drop_body(&reply);
        return;
    case ASK_QUEUED: return;
    case ASK_DEAD:
        s->flags &= (uint16_t)~SESSION_ASKED;
        session_login_refused(w, s, "3D000", NULL);
        return;
    }
}

void session_login_refused(struct worker *w, struct session *s, const char *sqlstate,
                           const char *text)
{
    char told[512];

    if (text == NULL) {
        snprintf(told, sizeof told,
                 "No connection pool configured for database: %s, user: %s. Please check your "
                 "connection parameters.",
                 session_database(s), session_user(s));
        text = told;
    }
    session_fatal(w, s, sqlstate, text, true);
}

/* --- the first packet --- */

static void too_many(struct worker *w, struct session *s)
{
    session_fatal(w, s, "53300", "sorry, too many clients already", false);
}

static bool replication_wanted(const char *value)
{
    static const char *const off[] = {"false", "off", "no", "0", "f", "n"};

    if (value == NULL)
        return false;
    for (size_t i = 0; i < COUNT_OF(off); i++) {
        if (strcasecmp(value, off[i]) == 0)
            return false;
    }
    return true;
}

/* What the client asks for and does not get: a later version, options of the protocol. */
static void negotiate(struct worker *w, struct session *s)
{
    struct session_login *l = s->login;
    struct bytes unknown[64];
    size_t count = 0;
    struct writer out;

    for (int i = 0; i < l->parameter_count; i++) {
        if (l->parameters[i].name.len >= 5 &&
            strncasecmp((const char *)l->parameters[i].name.at, "_pq_.", 5) == 0)
            unknown[count++] = l->parameters[i].name;
    }
    if (l->version <= PROTOCOL_3_2 && count == 0)
        return;
    writer_init(&out);
    write_negotiate_version(&out, MIN(l->version, (uint32_t)PROTOCOL_3_2), unknown, count);
    put_writer(w, s, &out);
}

static void refused_by_hba(struct worker *w, struct session *s)
{
    char text[512];

    snprintf(text, sizeof text,
             "Connection from %s to %s@%s (TLS: false) is not permitted by HBA configuration. "
             "Please contact your database administrator.",
             session_address(s), session_user(s), session_database(s));
    session_fatal(w, s, "28000", text, false);
}

static void start_admin(struct worker *w, struct session *s, const struct hba_peer *peer)
{
    struct session_login *l = s->login;
    const struct general_config *g = &l->config->general;
    char text[256];

    l->admin = true;
    switch (hba_admin_method(l->config->hba, peer, session_database(s), session_user(s),
                             g->admin_username)) {
    case HBA_TRUST:
        log_info("HBA trust: admin user=%s, addr=%s", session_user(s), session_address(s));
        session_authenticated(w, s);
        return;
    case HBA_DENY:
    case HBA_UNUSABLE:
        snprintf(text, sizeof text, "password authentication failed for user \"%s\"",
                 session_user(s));
        session_fatal(w, s, "28P01", text, false);
        return;
    default: session_auth_admin(w, s); return;
    }
}

struct hba_peer session_peer(const struct session *s)
{
    return (struct hba_peer){.local = s->flags & SESSION_LOCAL, .address = s->login->peer};
}

/* A user of the configuration is one, whatever auth_query would say. */
static bool is_static(struct pool_shared *shared)
{
    return shared != NULL && atomic_load(&shared->origin) == ORIGIN_STATIC &&
           atomic_load(&shared->pool) != 0;
}

static void start_lookup(struct worker *w, struct session *s, const char *database)
{
    struct auth_query_state *state = auth_query_find(database);

    s->shared = NULL;
    if (state == NULL)
        session_login_refused(w, s, "3D000", NULL);
    else
        session_lookup(w, s, state);
}

static void start_session(struct worker *w, struct session *s)
{
    struct session_login *l = s->login;
    const char *user = parameter(l, "user");
    const char *database = parameter(l, "database");
    const char *application = parameter(l, "application_name");
    struct hba_peer peer = session_peer(s);

    if (database == NULL || *database == '\0')
        database = user;
    session_set_names(s, user, database, application == NULL ? "pg_doorman" : application);
    login_begin(&l->entry);
    bool admin = strcmp(database, "pgdoorman") == 0 || strcmp(database, "pgbouncer") == 0;
    if (!admin && atomic_load(&app.draining)) {
        session_fatal(w, s, "58006", "is admin only mode: pooler is shut down now", false);
        return;
    }
    if (replication_wanted(parameter(l, "replication"))) {
        session_fatal(w, s, "0A000", "replication connections cannot be pooled", false);
        return;
    }
    if (!hba_may_enter(l->config->hba, &peer, database, user)) {
        refused_by_hba(w, s);
        return;
    }
    if (admin) {
        start_admin(w, s, &peer);
        return;
    }
    s->shared = directory_find(database, user);
    if (!is_static(s->shared)) {
        start_lookup(w, s, database);
        return;
    }
    if (session_auth_start(w, s, &peer))
        session_authenticated(w, s);
}

static void on_startup_message(struct worker *w, struct session *s, uint32_t version,
                               const struct frame *frame)
{
    struct session_login *l = s->login;
    struct failure why;

    if (version >> 16 != 3) {
        char text[128];

        snprintf(text, sizeof text,
                 "unsupported frontend protocol %u.%u: server supports 3.0 to 3.2", version >> 16,
                 version & 0xffff);
        session_fatal(w, s, "0A000", text, false);
        return;
    }
    if (atomic_load(&app.clients) > l->config->general.max_connections) {
        too_many(w, s);
        return;
    }
    if (l->config->general.tls_mode_value >= CLIENT_TLS_REQUIRE && !(s->flags & SESSION_LOCAL)) {
        session_fatal(w, s, "28000", "Connection without SSL is not allowed by tls_mode.", false);
        return;
    }
    l->text_len = frame->body_len;
    l->text = malloc(MAX(l->text_len, (size_t)1));
    INVARIANT(l->text != NULL);
    memcpy(l->text, frame->body, l->text_len);
    l->parameter_count = read_startup(l->text, l->text_len, l->parameters, COUNT_OF(l->parameters),
                                      &why);
    if (l->parameter_count < 0) {
        session_fatal(w, s, "08P01", why.text, false);
        return;
    }
    const char *user = parameter(l, "user");
    if (user == NULL || *user == '\0') {
        session_fatal(w, s, "28000", "no PostgreSQL user name specified in startup packet", false);
        return;
    }
    l->version = version;
    negotiate(w, s);
    start_session(w, s);
}

static void on_cancel_request(struct worker *w, struct session *s, const struct frame *frame)
{
    struct cursor body = cursor_of(frame->body, frame->body_len);
    uint32_t pid = cursor_u32(&body);
    struct bytes secret = cursor_bytes(&body, cursor_left(&body));
    int off = 0;
    struct linger linger = {0};

    if (body.bad || secret.len == 0) {
        session_close(w, s, "bad cancel request");
        return;
    }
    /* libpq reports a reset as a failed cancellation: close in the ordinary way. */
    io_set_option(s->conn.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if ((s->flags & SESSION_LOCAL) == 0)
        io_set_option(s->conn.fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof off);
    atomic_fetch_add(&app.connections_cancel, 1);
    char address[64];
    address_text(&s->login->peer, address, sizeof address);
    if (s->flags & SESSION_LOCAL)
        log_info("Cancel request via unix socket");
    else
        log_info("Cancel request from %s", address);
    session_go(s, SESSION_CANCEL);
    session_request_cancel(w, s, pid, secret);
}

static void on_first_packet(struct worker *w, struct session *s)
{
    uint32_t len = session_input_len(s);
    struct frame frame;
    uint32_t code;

    switch (packet_peek(&frame, &code, session_input(s), len, STARTUP_LIMIT)) {
    case FRAME_PARTIAL: return;
    case FRAME_BROKEN: session_close(w, s, "invalid length of startup packet"); return;
    case FRAME_WHOLE: break;
    }
    uint32_t whole = 8 + frame.body_len;
    switch (code) {
    case CODE_SSL:
    case CODE_GSSENC:
        /* Each once is what clients do. */
        if (frame.body_len != 0 || ++s->login->declined > DECLINED_MAX) {
            session_close(w, s, "invalid startup packet");
            return;
        }
        conn_put_copy(w, &s->conn, "N", 1);
        if (code == CODE_SSL &&
            atomic_load(&app.clients) > s->login->config->general.max_connections)
            too_many(w, s);
        break;
    case CODE_CANCEL: on_cancel_request(w, s, &frame); break;
    default: on_startup_message(w, s, code, &frame); break;
    }
    session_consume(w, s, MIN(whole, session_input_len(s)));
}

void session_on_startup_input(struct worker *w, struct session *s)
{
    uint32_t before;

    /* As long as it gets on: a packet may bring several steps. */
    do {
        before = session_input_len(s);
        if (before == 0)
            return;
        if (s->phase == SESSION_START)
            on_first_packet(w, s);
        else if (s->phase == SESSION_AUTH) {
            if (session_auth_input(w, s))
                session_authenticated(w, s);
        } else if (s->phase == SESSION_ADMIN)
            session_admin_input(w, s);
        else
            break;
    } while (session_input_len(s) != before);
    go_on(w, s);
}

void session_on_derived(struct worker *w, struct session *s, struct message *m)
{
    if (session_auth_derived(w, s, m))
        session_authenticated(w, s);
    go_on(w, s);
}

void session_on_lookup(struct worker *w, struct session *s, struct message *m)
{
    session_lookup_answered(w, s, m);
    go_on(w, s);
}
