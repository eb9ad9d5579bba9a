/* How sessions end: told why, silently, by a request to cancel of others. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/console.h"
#include "actors/pool.h"
#include "actors/session.h"
#include "actors/upgrade.h"

#include "runtime/log.h"
#include "runtime/world.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINGER_US = 1000000, CANCEL_US = 5000000 };

static void drop_input(struct worker *w, struct session *s)
{
    if (s->in != NULL)
        session_consume(w, s, session_input_len(s));
}

/* The client's side is settled; now the backend's, and the pool's. */
static void leave(struct worker *w, struct session *s)
{
    if (s->phase == SESSION_BOUND)
        session_abandon(w, s);
    else if (s->backend == NULL && s->phase != SESSION_CLOSED)
        session_go(s, SESSION_CLOSED);
    if (s->flags & SESSION_ASKED) {
        struct message *m = MESSAGE(POOL_WITHDRAW, .ticket = s->ticket, .since_us = s->asked_us);

        m->sender = actor_id_of(&s->actor);
        /* A pool that is gone has refused everyone first: that answer is in the mailbox. */
        actor_tell(w, atomic_load(&s->shared->pool), m);
    }
}

void session_told(struct worker *w, struct session *s, const char *reason)
{
    if (s->client != CLIENT_OPEN)
        return;
    s->client = CLIENT_TOLD;
    drop_input(w, s);
    log_debug(SESSION_LOG(s) "ending: %s", SESSION_ID(s), reason);
    actor_alarm(w, actor_id_of(&s->actor), w->now_us + LINGER_US, ++s->alarm);
    if (!conn_sent_all(&s->conn))
        conn_want_sent(w, &s->conn); /* to end it then */
    leave(w, s);
}

/* It has a part of a server's message: whatever were said now, it would take for the rest. */
static bool amid_message(const struct session *s)
{
    return s->backend != NULL && s->backend->body_left > 0 && !s->backend->body_swallowed;
}

void session_fatal(struct worker *w, struct session *s, const char *sqlstate, const char *text,
                   bool with_ready)
{
    struct writer out;

    if (s->client != CLIENT_OPEN)
        return;
    if (!amid_message(s)) {
        writer_init(&out);
        write_error(&out, "FATAL", sqlstate, text);
        if (with_ready)
            write_ready_for_query(&out, 'I');
        INVARIANT(!out.failed);
        conn_put_copy(w, &s->conn, out.at, out.len);
        writer_free(&out);
    }
    atomic_fetch_add(&app.connections_error, s->login != NULL);
    log_warn("[#c%llu] client %s disconnected with error: %s (%s)", (unsigned long long)s->number,
             session_address(s), text, sqlstate);
    session_told(w, s, text);
}

void session_out_of_memory(struct worker *w, struct session *s)
{
    session_fatal(w, s, "53200",
                  "Server is temporarily out of memory. Please try again later or reduce the size "
                  "of your query.",
                  true);
}

void session_close(struct worker *w, struct session *s, const char *reason)
{
    if (s->client == CLIENT_CLOSED)
        return;
    if (reason != NULL)
        log_warn("[#c%llu] client %s disconnected with error: %s", (unsigned long long)s->number,
                 session_address(s), reason);
    s->client = CLIENT_CLOSED;
    drop_input(w, s);
    conn_close(w, &s->conn);
    leave(w, s);
}

/* The error was sent: the client has a second to read it, undisturbed by a reset. */
static void half_close(struct worker *w, struct session *s)
{
    struct linger off = {0};

    (void)w;
    s->client = CLIENT_LINGERS;
    io_set_option(s->conn.fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
    io_shutdown(s->conn.fd, SHUT_WR);
}

static void log_end(struct worker *w, const struct session *s)
{
    struct config *config = app_config();
    char age[32];

    if (config->general.log_client_disconnections)
        log_info(SESSION_LOG(s) "client disconnected from %s, session=%s", SESSION_ID(s),
                 session_address(s),
                 format_duration(age, sizeof age, elapsed_us(w, s->connected_us)));
    config_unref(config);
}

void session_maybe_exit(struct worker *w, struct session *s)
{
    if (s->client == CLIENT_TOLD && conn_sent_all(&s->conn))
        half_close(w, s);
    if (s->phase != SESSION_CLOSED || s->client != CLIENT_CLOSED || s->backend != NULL ||
        (s->flags & SESSION_ASKED) != 0 || conn_is_open(&s->conn) || s->actor.dying)
        return;
    if (s->flags & SESSION_LOGGED_IN) {
        cancel_forget((uint32_t)s->number, s->secret, actor_id_of(&s->actor));
        session_in_pool(s, -1);
        log_end(w, s);
    }
    if (s->admitted)
        pools_leave(w, s->shared, s->login != NULL);
    session_login_free(s);
    session_statements_free(s);
    session_capture_end(s, false);
    parameter_set_unref(s->wanted);
    s->wanted = NULL;
    if (s->shared == NULL)
        console_free(s);
    free(s->name);
    s->name = NULL;
    s->in_end = 0;
    atomic_fetch_sub(&app.clients, 1);
    actor_exit(&s->actor);
}

void session_login_overdue(struct worker *w, struct session *s)
{
    if (s->login == NULL || s->phase == SESSION_CANCEL)
        return;
    session_fatal(w, s, "08P01", "client_login_timeout", false);
}

void session_drain(struct worker *w, struct session *s)
{
    s->flags |= SESSION_DRAIN;
    if (s->phase == SESSION_START || s->phase == SESSION_AUTH)
        session_close(w, s, NULL);
    struct config *config = app_config();
    bool at_once = config->general.drain_idle_clients;

    config_unref(config);
    if (at_once && s->phase == SESSION_IDLE && s->in == NULL && !s->begin_owed)
        session_fatal(w, s, "58006", "pooler is shut down now", false);
}

void session_pool_gone(struct worker *w, struct session *s, bool with_ready)
{
    char text[256];

    snprintf(text, sizeof text, "No pool configured for database: %s, user: %s",
             session_database(s), session_user(s));
    session_fatal(w, s, "3D000", text, with_ready);
}

/* PgDoorman 3.10 would not take it, however long it rests (upgrade_load.c). */
static bool unfit(const struct session *s)
{
    return s->stays || atomic_load(&s->shared->origin) != ORIGIN_STATIC;
}

/* True: it waits for a round. In session mode one with a backend goes on. */
static bool rest(struct worker *w, struct session *s)
{
    if (s->phase != SESSION_IDLE)
        return false;
    if (s->leaves_bare) {
        if (s->in != NULL || s->begin_owed || unfit(s))
            return false; /* to be served here; then it rests again, if it can leave at all */
        /* It may have sent more by now: then this comes too late, as it might everywhere. */
        s->rests = true;
        conn_recv_stop(w, &s->conn);
    }
    atomic_store(&app.resting, true);
    return true;
}

bool session_drained(struct worker *w, struct session *s)
{
    if (atomic_load(&app.draining)) {
        log_warn(SESSION_LOG(s) "dropping client %s: shutting down", SESSION_ID(s),
                 session_address(s));
        session_fatal(w, s, "58006", "pooler is shut down now", false);
        return true;
    }
    if (s->leaves)
        return rest(w, s);
    /* It came from another process whose configuration had a pool for it. */
    if (atomic_load(&s->shared->pool) == 0) {
        session_pool_gone(w, s, false);
        return true;
    }
    s->flags &= (uint16_t)~SESSION_DRAIN; /* there is one again */
    return false;
}

/* --- leaving --- */

static void stay(struct worker *w, struct session *s)
{
    s->stays = false;
    if (!s->leaves)
        return;
    s->leaves = s->leaves_bare = s->rests = false;
    s->flags &= (uint16_t)~SESSION_DRAIN;
    session_on_client_input(w, s);
}

void session_on_leave(struct worker *w, struct session *s, struct message *m)
{
    switch ((enum session_leaving)message_get_SESSION_LEAVE(m).how) {
    case LEAVING_NOT: stay(w, s); break;
    case LEAVING:
    case LEAVING_BARE:
        s->flags |= SESSION_DRAIN;
        s->leaves = true;
        s->leaves_bare = message_get_SESSION_LEAVE(m).how == LEAVING_BARE;
        if (s->stays) /* it was found only as it rested */
            s->rests = false;
        break;
    case LEAVING_ENDS:
        if (s->phase == SESSION_CANCEL)
            session_close(w, s, NULL);
        else
            session_fatal(w, s, "58006", "pooler is shut down now", false);
        break;
    }
}

/* --- cancel --- */

struct cancel {
    actor_id requester;
    actor_id backend;
    struct sockaddr_storage address;
    socklen_t address_len;
    int32_t pid;
    uint8_t key[32];
    uint8_t key_len;
    char where[128];
};

static void cancel_run(struct coroutine *co, void *argument)
{
    struct cancel *c = argument;
    enum cancel_outcome outcome = backend_send_cancel(co->worker, &c->address, c->address_len,
                                                      c->pid, c->key, c->key_len);
    bool sent = outcome != CANCEL_NOT_SENT;

    log_warn("cancel request %s to %s pid=%d", sent ? "forwarded" : "could not be forwarded",
             c->where, c->pid);
    if (c->requester != 0)
        actor_tell(co->worker, c->requester, MESSAGE(CANCEL_DONE, .sent = sent));
    actor_tell(co->worker, c->backend, MESSAGE(BACKEND_CANCELLED, .outcome = (uint64_t)outcome));
    free(c);
}

void session_request_cancel(struct worker *w, struct session *s, uint32_t pid, struct bytes secret)
{
    actor_id target = cancel_find(pid, secret);
    struct message *m = MESSAGE(SESSION_CANCEL, .secret = secret);

    m->sender = actor_id_of(&s->actor);
    actor_alarm(w, actor_id_of(&s->actor), w->now_us + CANCEL_US, ++s->alarm);
    if (actor_tell(w, target, m))
        return;
    /* Its session may still be in the process before this one. */
    successor_forward_cancel(pid, secret);
    session_close(w, s, NULL);
}

void session_cancel_backend(struct worker *w, struct session *s, actor_id requester)
{
    struct backend *b = s->backend;
    const struct ledger_entry *running = ledger_head(&b->ledger);

    /* It would strike the BEGIN or the settings that precede what is meant. A Parse is no matter:
     * its reply comes with those to what follows it, so that may be what runs. */
    bool ours = running != NULL && running->whose == FOR_POOLER && running->kind == ASK_QUERY;

    /* Of a batch that is to be sent again there is nothing left to strike. */
    if (ours || b->replaying) {
        s->cancel_due = true;
        if (requester != 0)
            actor_tell(w, requester, MESSAGE(CANCEL_DONE, .sent = 0));
        return;
    }
    struct cancel *c = calloc(1, sizeof *c);
    INVARIANT(c != NULL);
    /* It may hit late: the backend rests until that is over. */
    b->cancels_sent++;
    c->requester = requester;
    c->backend = actor_id_of(&b->actor);
    c->address = b->address;
    c->address_len = b->address_len;
    c->pid = b->pid;
    c->key_len = b->key_len;
    memcpy(c->key, b->key, b->key_len);
    snprintf(c->where, sizeof c->where, "%s:%u", b->effective->server_host,
             b->effective->server_port);
    worker_spawn(w, cancel_run, c);
}

void session_cancel_due(struct worker *w, struct session *s)
{
    bool runs = s->backend != NULL && !ledger_empty(&s->backend->ledger) &&
                (s->phase == SESSION_BOUND || s->phase == SESSION_DRAINING);

    if (s->phase == SESSION_RELEASING && s->replayed)
        return; /* released() looks after it */
    /* Or nothing of the client followed: what it sends later is not meant. */
    s->cancel_due = false;
    if (runs)
        session_cancel_backend(w, s, 0);
}

void session_on_cancel(struct worker *w, struct session *s, struct message *m)
{
    struct bytes secret = message_get_SESSION_CANCEL(m).secret;
    uint8_t key[SESSION_KEY];
    size_t key_len = session_key(s, key);
    bool right = secret_equal(secret.at, secret.len, key, key_len) && s->client == CLIENT_OPEN;

    if (right && s->phase == SESSION_BOUND) {
        session_cancel_backend(w, s, m->sender);
        return;
    }
    if (right && s->phase == SESSION_WAITING)
        session_cancel_wait(w, s);
    if (right && s->phase == SESSION_RELEASING && s->replayed)
        s->cancel_due = true;
    actor_tell(w, m->sender, MESSAGE(CANCEL_DONE, .sent = 0));
}
