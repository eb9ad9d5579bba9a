#define LOG_MODULE "pg_doorman::client"
#include "actors/session.h"

#include "runtime/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

enum { HELD_MAX = 1024 }; /* bytes of our own replies that wait for the server's */

const char *session_phase_name(uint8_t phase)
{
    static const char *const names[] = {
#define X(p) [SESSION_##p] = #p,
        SESSION_PHASES(X)
#undef X
    };

    return phase < SESSION_PHASE_COUNT ? names[phase] : "?";
}

const char *session_state_word(const struct session *s)
{
    switch (s->phase) {
    case SESSION_WAITING: return "waiting";
    case SESSION_BOUND:
    case SESSION_DRAINING:
    case SESSION_RELEASING: return "active";
    default: return "idle";
    }
}

#define TO(p) (1u << SESSION_##p)
#define ENDS  TO(CLOSED)
static const uint32_t may_go[SESSION_PHASE_COUNT] = {
    [SESSION_START] = TO(LOOKUP) | TO(AUTH) | TO(DERIVING) | TO(LOGIN) | TO(ADMIN) | TO(CANCEL) |
                      ENDS,
    [SESSION_LOOKUP] = TO(AUTH) | TO(DERIVING) | TO(LOGIN) | ENDS,
    [SESSION_AUTH] = TO(LOOKUP) | TO(DERIVING) | TO(LOGIN) | TO(ADMIN) | ENDS,
    [SESSION_DERIVING] = TO(AUTH) | TO(LOGIN) | ENDS,
    [SESSION_LOGIN] = TO(IDLE) | ENDS,
    [SESSION_IDLE] = TO(WAITING) | TO(BOUND) | ENDS,
    [SESSION_WAITING] = TO(BOUND) | TO(IDLE) | ENDS,
    [SESSION_BOUND] = TO(IDLE) | TO(DRAINING) | TO(RELEASING) | ENDS,
    [SESSION_DRAINING] = TO(RELEASING) | ENDS,
    [SESSION_RELEASING] = TO(IDLE) | ENDS,
    [SESSION_ADMIN] = TO(ADMIN_BUSY) | ENDS,
    [SESSION_ADMIN_BUSY] = TO(ADMIN) | ENDS,
    [SESSION_CANCEL] = ENDS,
    [SESSION_CLOSED] = 0,
};

void session_go(struct session *s, enum session_phase to)
{
    INVARIANT(may_go[s->phase] & (1u << to));
    s->phase = (uint8_t)to;
}

/* --- input --- */

void session_consume(struct worker *w, struct session *s, uint32_t len)
{
    DEBUG_CHECK(len <= session_input_len(s));
    s->in_at += len;
    s->in_scanned -= MIN(s->in_scanned, len);
    if (s->in_at == s->in_end && s->in != NULL) {
        rbuf_unref(w, s->in);
        s->in = NULL;
        s->in_at = s->in_end = 0;
    }
}

/* How large a block for what waits and what came: it grows in steps, since what a client announces
 * is not what it sends, but not beyond the message. */
static size_t room_for(const struct session *s, uint32_t waiting, uint32_t len)
{
    size_t needed = (size_t)waiting + len;
    size_t room = needed * 4;
    struct frame frame;

    if (frame_peek(&frame, session_input(s) + s->in_scanned, waiting - s->in_scanned,
                   FRAME_LIMIT) == FRAME_PARTIAL &&
        frame.body != NULL)
        room = MIN(room, (size_t)s->in_scanned + FRAME_HEADER + frame.body_len + 64);
    return MAX(needed, MIN(room, (size_t)FRAME_LIMIT));
}

/* Tells all sessions' sum of what this one holds. */
static void input_hold(struct session *s, size_t len)
{
    uint32_t held = len > INPUT_FREE ? (uint32_t)len : 0;

    if (LIKELY(held == s->in_held))
        return;
    atomic_fetch_add(&app.input_held, (int64_t)held - (int64_t)s->in_held);
    s->in_held = held;
}

/* Counted before it is kept. False: the sum would exceed its limit. */
static bool input_fits(struct session *s, uint32_t len)
{
    input_hold(s, (size_t)session_input_len(s) + len);
    return LIKELY(s->in_held == 0) || atomic_load(&app.input_held) <= atomic_load(&app.input_limit);
}

/* Appends what came. Mostly nothing waited, and the block is taken over as it is. */
static void input_append(struct worker *w, struct session *s, struct rbuf *buf, uint32_t len)
{
    uint32_t waiting = session_input_len(s);

    if (LIKELY(waiting == 0)) {
        s->in = buf;
        s->in_at = 0;
        s->in_end = len;
        s->in_scanned = 0;
        return;
    }
    if (s->in->refs == 1 && s->in->size - s->in_end >= len) {
        memcpy(s->in->data + s->in_end, buf->data, len);
        s->in_end += len;
        rbuf_unref(w, buf);
        return;
    }
    struct rbuf *joined = rbuf_take_bytes(w, room_for(s, waiting, len));
    memcpy(joined->data, session_input(s), waiting);
    memcpy(joined->data + waiting, buf->data, len);
    rbuf_unref(w, s->in);
    rbuf_unref(w, buf);
    s->in = joined;
    s->in_at = 0;
    s->in_end = waiting + len;
}

/* A parked session keeps no pooled block: what waits is moved to memory of its size. */
static void input_settle(struct worker *w, struct session *s)
{
    uint32_t waiting = session_input_len(s);

    if (waiting == 0 || s->in->class == RBUF_EXACT || waiting * 2 > s->in->size)
        return;
    struct rbuf *kept = rbuf_take_exact(MAX(waiting, 64u));
    memcpy(kept->data, session_input(s), waiting);
    rbuf_unref(w, s->in);
    s->in = kept;
    s->in_at = 0;
    s->in_end = waiting;
}

/* --- dispatch --- */

static void run_input(struct worker *w, struct session *s)
{
    switch ((enum session_phase)s->phase) {
    case SESSION_START:
    case SESSION_AUTH:
    case SESSION_ADMIN: session_on_startup_input(w, s); break;
    case SESSION_IDLE:
    case SESSION_BOUND: session_on_client_input(w, s); break;
    case SESSION_DRAINING:
    case SESSION_CLOSED: session_consume(w, s, session_input_len(s)); break;
    case SESSION_LOOKUP:
    case SESSION_DERIVING:
    case SESSION_LOGIN:
    case SESSION_WAITING:
    case SESSION_RELEASING:
    case SESSION_ADMIN_BUSY:
    case SESSION_CANCEL: break; /* it waits */
    case SESSION_PHASE_COUNT: break;
    }
}

static bool wants_input(const struct session *s)
{
    if ((s->flags & SESSION_CLIENT_PAUSED) != 0 || s->client == CLIENT_CLOSED)
        return false;
    if (s->client != CLIENT_OPEN)
        return true; /* to see it close */
    switch ((enum session_phase)s->phase) {
    case SESSION_IDLE:
        return !s->rests && (!session_answers_wait(s) || session_input_len(s) < BATCH_HIGH);
    case SESSION_BOUND: return !session_must_pause(s) || session_input_len(s) < BATCH_HIGH;
    case SESSION_WAITING:
    case SESSION_RELEASING:
    case SESSION_LOOKUP:
    case SESSION_DERIVING:
    case SESSION_LOGIN:
    case SESSION_CANCEL:
    case SESSION_ADMIN_BUSY: return session_input_len(s) < BATCH_HIGH;
    default: return true;
    }
}

/* What it is told leaves. What it is answered without a backend comes only as fast as it reads. */
static void settle_client(struct worker *w, struct session *s)
{
    while (s->conn.out != NULL) {
        bool waited = session_answers_wait(s);

        conn_flush(w, &s->conn);
        if (session_answers_wait(s))
            conn_want_sent(w, &s->conn);
        else if (waited && s->in != NULL) {
            run_input(w, s);
            continue;
        }
        return;
    }
}

/* What a lease has produced leaves, and its next receive is armed. */
static void settle_backend(struct worker *w, struct session *s, struct backend *b)
{
    if (b->conn.out != NULL)
        conn_flush(w, &b->conn);
    if (s->conn.out_bytes > OUTPUT_HIGH && (s->flags & SESSION_SERVER_PAUSED) == 0 &&
        session_client_listens(s)) {
        s->flags |= SESSION_SERVER_PAUSED;
        s->server_held_us = w->now_us;
        s->client_mark = 0;
        conn_want_sent(w, &s->conn);
        session_watch_progress(w, s);
    }
    if ((s->flags & SESSION_SERVER_PAUSED) == 0)
        conn_recv(w, &b->conn);
    if (b->conn.out_bytes > OUTPUT_HIGH && (s->flags & SESSION_CLIENT_PAUSED) == 0) {
        s->flags |= SESSION_CLIENT_PAUSED;
        s->client_held_us = w->now_us;
        s->server_mark = 0;
        conn_want_sent(w, &b->conn);
        session_watch_progress(w, s);
    }
}

/* The pooler's own replies (a ParseComplete, say) while the server's are on their way: they leave
 * together, as PostgreSQL itself would send them. Only in a batch whose end the server has been
 * asked to answer, so they are not waited for in vain. */
static bool more_follows(const struct session *s, const struct message *m)
{
    bool asked = m->kind == MSG_POOL_LEASE || (m->kind == MESSAGE_RECV && m->io.conn == &s->conn);

    return asked && s->phase == SESSION_BOUND && s->client == CLIENT_OPEN &&
           s->conn.out_bytes <= HELD_MAX && ledger_ends_ready(&s->backend->ledger);
}

/* The end of every handler: output leaves, the next receives are armed, and a session with
 * nothing left ends. */
static void settle(struct worker *w, struct session *s, const struct message *m)
{
    if (s->conn.out != NULL && !more_follows(s, m))
        settle_client(w, s);
    struct backend *b = s->backend;
    if (b != NULL && (s->phase == SESSION_BOUND || s->phase == SESSION_DRAINING) &&
        conn_is_open(&b->conn))
        settle_backend(w, s, b);
    if (s->in != NULL)
        input_settle(w, s);
    input_hold(s, session_input_len(s));
    if (wants_input(s))
        conn_recv(w, &s->conn);
    session_maybe_exit(w, s);
}

/* What it sent before it left counts: Terminate above all, but also a query that it did not wait
 * for. */
static void on_client_recv(struct worker *w, struct session *s, struct message *m)
{
    if (m->io.result == -ECANCELED) /* it was to rest, and settle() knows whether it still is */
        return;
    s->rests = false;
    if (m->io.result <= 0) {
        session_close(w, s, NULL);
        return;
    }
    if (!input_fits(s, (uint32_t)m->io.result)) {
        rbuf_unref(w, m->io.buf);
        session_out_of_memory(w, s);
        return;
    }
    input_append(w, s, m->io.buf, (uint32_t)m->io.result);
    if (s->client == CLIENT_OPEN)
        run_input(w, s);
    else
        session_consume(w, s, session_input_len(s));
}

static void on_server_recv(struct worker *w, struct session *s, struct message *m)
{
    if (m->io.result > 0) {
        s->backend->bytes_received += (uint64_t)m->io.result;
        COUNT(counters_of(w, s->shared)->bytes_received, (uint64_t)m->io.result);
        session_on_server_bytes(w, s, m->io.buf, (uint32_t)m->io.result);
        rbuf_unref(w, m->io.buf);
    } else if (m->io.result != -ECANCELED) {
        session_backend_lost(w, s);
        return;
    }
    if (s->phase == SESSION_RELEASING)
        session_release(w, s);
}

static void on_recv(struct worker *w, struct session *s, struct message *m)
{
    if (m->io.conn == &s->conn)
        on_client_recv(w, s, m);
    else if (s->backend != NULL && m->io.conn == &s->backend->conn)
        on_server_recv(w, s, m);
    else
        INVARIANT(!"bytes of a backend that this session does not hold");
}

static void on_client_sent(struct worker *w, struct session *s, int32_t result)
{
    if (result < 0) {
        session_close(w, s, NULL);
        return;
    }
    s->flags &= (uint16_t)~SESSION_SERVER_PAUSED;
    if (s->phase == SESSION_IDLE)
        run_input(w, s);
}

/* A server that ends a connection does not read on, but has said why: the end comes behind that, as
 * something received. */
static bool has_last_words(const struct session *s, int32_t result)
{
    return s->phase == SESSION_BOUND && (result == -EPIPE || result == -ECONNRESET);
}

static void on_server_sent(struct worker *w, struct session *s, int32_t result)
{
    if (result < 0) {
        if (!has_last_words(s, result))
            session_backend_lost(w, s);
        return;
    }
    if (s->flags & SESSION_CLIENT_PAUSED) {
        s->flags &= (uint16_t)~SESSION_CLIENT_PAUSED;
        if (s->phase != SESSION_RELEASING)
            run_input(w, s);
    }
    if (s->phase == SESSION_RELEASING)
        session_release(w, s);
}

static void on_sent(struct worker *w, struct session *s, struct message *m)
{
    if (m->io.conn == &s->conn)
        on_client_sent(w, s, m->io.result);
    else if (s->backend != NULL)
        on_server_sent(w, s, m->io.result);
}

static void on_closed(struct worker *w, struct session *s, struct message *m)
{
    if (s->backend != NULL && m->io.conn == &s->backend->conn)
        session_close_backend(w, s);
}

/* What its socket was given by another process may not be what is configured here. */
static void follow_options(const struct session *s)
{
    if (s->client != CLIENT_OPEN || (s->flags & SESSION_LOGGED_IN) == 0)
        return;
    struct config *config = app_config();
    socket_options(s->conn.fd, s->flags & SESSION_LOCAL, &config->general);
    config_unref(config);
}

/* It comes from another process: its alarms are set again, and what it had read is looked at. */
static void session_resume(struct worker *w, struct session *s)
{
    if (s->migrated && s->login != NULL) {
        session_migrated_begin(w, s);
        return;
    }
    follow_options(s);
    if ((s->flags & SESSION_LOGGED_IN) != 0 && s->shared != NULL) {
        session_watch_limits(w, s);
        session_trim_statements(w, s);
    }
    if (UNLIKELY(s->flags & SESSION_DRAIN) && s->phase == SESSION_BOUND && session_rests(s) &&
        session_drained(w, s))
        return;
    if (s->in != NULL)
        run_input(w, s);
}

static void session_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct session *s = session_of(self);

    switch (m->kind) {
    case MESSAGE_RECV: on_recv(w, s, m); break;
    case MESSAGE_SENT: on_sent(w, s, m); break;
    case MESSAGE_CLOSED: on_closed(w, s, m); break;
    case MESSAGE_START: session_resume(w, s); break; /* settle() arms the first receive */
    case MSG_SESSION_MOVED: break;                   /* nothing is left but to end */
    case MSG_POOL_LEASE: session_on_lease(w, s, m); break;
    case MSG_POOL_REFUSED: session_on_refused(w, s, m); break;
    case MSG_POOL_WITHDRAWN: session_on_withdrawn(w, s); break;
    case MSG_SESSION_LOGIN_TIMEOUT: session_login_overdue(w, s); break;
    case MSG_POOL_PARAMETERS: session_on_parameters(w, s, m); break;
    case MSG_DERIVED_KEYS: session_on_derived(w, s, m); break;
    case MSG_AUTH_ANSWER: session_on_lookup(w, s, m); break;
    case MSG_SESSION_CANCEL: session_on_cancel(w, s, m); break;
    case MSG_CANCEL_DONE: session_close(w, s, NULL); break;
    case MSG_SESSION_DRAIN: session_drain(w, s); break;
    case MSG_SESSION_LEAVE: session_on_leave(w, s, m); break;
    case MSG_ADMIN_RESULT: session_on_admin_result(w, s, m); break;
    case MESSAGE_ALARM: session_on_alarm(w, s, m); break;
    default: INVARIANT(!"a session does not understand this kind of message");
    }
    settle(w, s, m);
}

/* --- life --- */

void session_open(struct worker *w, int fd, const struct sockaddr_storage *peer, uint16_t home)
{
    struct session *s = session_of(actor_new(&session_type, home));
    struct config *config = app_config();

    s->number = atomic_fetch_add(&app.connection_number, 1) + 1;
    random_secret(&s->secret, sizeof s->secret);
    s->connected_us = w->now_us;
    s->flags = SESSION_COUNTED | (peer->ss_family == AF_UNIX ? SESSION_LOCAL : 0);
    atomic_fetch_add(&app.clients, 1);
    atomic_fetch_add(&app.connections_total, 1);
    s->login = calloc(1, sizeof *s->login);
    INVARIANT(s->login != NULL);
    s->login->config = config;
    s->login->peer = *peer;
    if (peer->ss_family == AF_UNIX) /* TCP sockets have inherited theirs from the listener */
        socket_options(fd, true, &config->general);
    conn_open(&s->conn, fd, &s->actor);
    if (peer->ss_family != AF_UNIX)
        conn_flags_change(&s->conn, CONN_MORE, 0); /* listener_tcp.c defers accepting till then */
    login_enter(&s->login->entry, actor_id_of(&s->actor), w->now_us);
    /* Born in these hands: no message is needed to arm the first receive. */
    conn_recv(w, &s->conn);
    actor_release(w, &s->actor);
}

static uint32_t session_pack(const struct actor *a, struct packer *out)
{
    const struct session *s = CONTAINER_OF(a, struct session, actor);

    pack_str(out, "number");
    pack_uint(out, s->number);
    pack_str(out, "database");
    pack_str(out, session_database(s));
    pack_str(out, "user");
    pack_str(out, session_user(s));
    pack_str(out, "application_name");
    pack_str(out, session_application(s));
    pack_str(out, "address");
    pack_str(out, session_address(s));
    pack_str(out, "mode");
    pack_str(out, s->mode == POOL_MODE_SESSION ? "session" : "transaction");
    pack_str(out, "flags");
    pack_uint(out, s->flags);
    pack_str(out, "backend");
    pack_uint(out, s->backend == NULL ? 0 : actor_id_of(&s->backend->actor));
    pack_str(out, "input_waiting");
    pack_uint(out, session_input_len(s));
    pack_str(out, "output_waiting");
    pack_uint(out, s->conn.out_bytes);
    pack_str(out, "statements");
    pack_uint(out, s->statements.count);
    pack_str(out, "connected_us");
    pack_uint(out, s->connected_us);
    pack_str(out, "transactions");
    pack_uint(out, s->transactions);
    pack_str(out, "queries");
    pack_uint(out, s->queries);
    return 14;
}

static const char *session_state(const struct actor *a)
{
    return session_phase_name(CONTAINER_OF(a, struct session, actor)->phase);
}

const struct actor_type session_type = {
    .name = "session",
    .size = sizeof(struct session),
    .rank = RANK_SESSION,
    .number = 1,
    .receive = session_receive,
    .pack = session_pack,
    .state_name = session_state,
    .kind_name = message_kind_name,
};
