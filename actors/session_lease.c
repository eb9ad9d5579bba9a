/* How a session comes by a backend, and how it lets go. */
#define LOG_MODULE "pg_doorman::client::transaction"
#include "actors/session_login.h"

#include "runtime/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Sessions of their own may read at any time, and begin seldom. */
static bool reads_sequences(const struct session *s)
{
    return s->mode == POOL_MODE_SESSION ||
           atomic_load_explicit(&s->shared->sequences_read, memory_order_relaxed);
}

static void bind_backend(struct worker *w, struct session *s, struct backend *b, uint64_t waited_us)
{
    struct pool_counters *counters = counters_of(w, s->shared);

    INVARIANT(s->backend == NULL);
    s->backend = b;
    session_go(s, SESSION_BOUND);
    s->leased_us = w->now_us;
    s->lease_batches = 0;
    s->wait_max_us = MAX(s->wait_max_us, waited_us);
    COUNT(counters->waits, 1);
    COUNT(counters->wait_us, waited_us);
    time_record(w, s->shared, TIME_WAIT, waited_us);
    s->flags &= (uint16_t) ~(SESSION_COPY_IN | SESSION_SKIP_TO_SYNC | SESSION_FLUSHED |
                             SESSION_BAD_BACKEND | SESSION_REMAP | SESSION_FATAL_SEEN |
                             SESSION_SERVER_PAUSED | SESSION_CLIENT_PAUSED);
    if (s->mode == POOL_MODE_TRANSACTION && b->statements != NULL) {
        s->flags |= SESSION_REMAP;
        b->may_copy = false;
        statement_set_limit(b->statements,
                            atomic_load_explicit(&s->shared->backend_limit, memory_order_relaxed));
    }
    size_t name_len = strnlen(session_application(s), sizeof b->application_name - 1);
    memcpy(b->application_name, session_application(s), name_len);
    b->application_name[name_len] = '\0';
    app_count_lease(w, 1);
    s->syncing = s->sync_alone = s->sync_failed = s->copy_synced = false;
    s->copy_asked = s->copy_due = s->copy_held = s->copy_skips = false;
    if (UNLIKELY(b->applied != s->wanted || b->applied_stale))
        session_sync(w, s);
    if (UNLIKELY(!text_settings_fit(b, s->wanted)))
        text_settings_apply(b, s->wanted);
    b->visible = false;
    b->unnamed_used = false;
    b->schema_changed = false;
    b->traits = 0;
    if (b->sequences_of != actor_id_of(&s->actor)) {
        b->sequences_foreign |= b->sequences_of != 0;
        b->sequences_of = actor_id_of(&s->actor);
    }
    if (UNLIKELY(b->sequences_foreign && reads_sequences(s)))
        session_sequences_begin(w, s);
    if (s->begin_owed)
        session_send_begin(w, s);
    if (waited_us >= 500000)
        log_warn(SESSION_LOG(s) "slow checkout: waited %" PRIu64 "ms, pid=%d", SESSION_ID(s),
                 waited_us / 1000, b->pid);
}

void session_checkout(struct worker *w, struct session *s)
{
    struct message request = {0};
    struct message reply = {0};
    struct msg_POOL_CHECKOUT want = {.ticket = ++s->ticket};

    session_go(s, SESSION_WAITING);
    s->asked_us = w->now_us;
    message_put_POOL_CHECKOUT(&request, &want);
    switch (actor_ask(w, &s->actor, atomic_load_explicit(&s->shared->pool, memory_order_relaxed),
                      &request, &reply)) {
    case ASK_ANSWERED:
        bind_backend(w, s, backend_find(message_get_POOL_LEASE(&reply).backend), 0);
        return;
    case ASK_QUEUED: s->flags |= SESSION_ASKED; return;
    case ASK_DEAD: session_pool_gone(w, s, true); return;
    }
}

void session_on_lease(struct worker *w, struct session *s, struct message *m)
{
    struct msg_POOL_LEASE lease = message_get_POOL_LEASE(m);
    struct backend *b = backend_find(lease.backend);

    INVARIANT(b != NULL && (s->flags & SESSION_ASKED) != 0 && lease.ticket == s->ticket);
    s->flags &= (uint16_t)~SESSION_ASKED;
    if (s->phase != SESSION_WAITING || session_wait_is_off(s)) { /* too late: straight back */
        s->backend = b;
        session_give_back(w, s, LEASE_CLEAN);
        if (session_wait_is_off(s))
            session_end_wait(w, s);
        return;
    }
    bind_backend(w, s, b, lease.waited_us);
    session_on_client_input(w, s);
    if (s->cancel_wanted && s->phase == SESSION_BOUND)
        session_cancel_backend(w, s, 0);
    s->cancel_wanted = false;
}

void session_on_withdrawn(struct worker *w, struct session *s)
{
    s->flags &= (uint16_t)~SESSION_ASKED;
    if (session_wait_is_off(s))
        session_end_wait(w, s);
}

void session_on_refused(struct worker *w, struct session *s, struct message *m)
{
    struct msg_POOL_REFUSED no = message_get_POOL_REFUSED(m);
    char sqlstate[6];
    char text[600];

    s->flags &= (uint16_t)~SESSION_ASKED;
    snprintf(sqlstate, sizeof sqlstate, "%.*s", (int)no.sqlstate.len, (const char *)no.sqlstate.at);
    snprintf(text, sizeof text, "%.*s", (int)no.text.len, (const char *)no.text.at);
    COUNT(counters_of(w, s->shared)->errors, 1);
    if (s->phase == SESSION_WAITING) {
        /* The longest waits are those in vain: without them the percentiles would flatter. */
        time_record(w, s->shared, TIME_WAIT, elapsed_us(w, s->asked_us));
        session_fatal(w, s, sqlstate, text, true);
        return;
    }
    if (s->phase != SESSION_LOGIN)
        return;
    log_warn(SESSION_LOG(s) "login failed: %s", SESSION_ID(s), text);
    if (s->login->found != NULL) {
        session_lookup_no_backend(w, s, sqlstate, sizeof sqlstate, text, sizeof text);
    } else if (strcmp(sqlstate, "53300") == 0) {
        snprintf(text, sizeof text,
                 "Unable to retrieve server parameters for database: %s, user: %s. The database "
                 "server may be unavailable or misconfigured. Please try again later or contact "
                 "your database administrator.",
                 session_database(s), session_user(s));
        snprintf(sqlstate, sizeof sqlstate, "3D000");
    }
    session_fatal(w, s, sqlstate, text, true);
}

/* --- giving back --- */

bool session_rests(const struct session *s)
{
    const struct backend *b = s->backend;

    return b->status == 'I' && ledger_empty(&b->ledger) && !b->needs_sync && !b->replaying &&
           !b->copy_in && b->stash == NULL && b->body_left == 0 && s->body_left == 0;
}

bool session_may_release(const struct session *s)
{
    return s->mode == POOL_MODE_TRANSACTION && session_rests(s);
}

void session_give_back(struct worker *w, struct session *s, enum lease_end how)
{
    struct backend *b = s->backend;
    struct message request = {0};
    struct message reply = {0};
    struct msg_POOL_RETURN back = {.backend = actor_id_of(&b->actor),
                                   .how = (uint64_t)how,
                                   .held_us = elapsed_us(w, s->leased_us)};

    INVARIANT(how == LEASE_BROKEN || (conn_is_open(&b->conn) && ledger_empty(&b->ledger)));
    if (how == LEASE_BROKEN)
        b->broken = true;
    if (s->phase == SESSION_BOUND || s->phase == SESSION_DRAINING || s->phase == SESSION_RELEASING)
        app_count_lease(w, -1);
    session_replay_done(w, b);
    b->replaying = false;
    conn_give(&b->conn, &b->actor);
    s->backend = NULL;
    s->cancel_due &= s->replayed;
    message_put_POOL_RETURN(&request, &back);
    /* A pool ends after its last backend, so it lives. */
    if (actor_ask(w, &s->actor, b->pool, &request, &reply) == ASK_DEAD)
        INVARIANT(!"the pool of a leased backend is gone");
}

/* What the next holder must not find. */
static enum lease_end judge(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (b->broken || (s->flags & SESSION_BAD_BACKEND))
        return LEASE_BROKEN;
    /* A message that began while the lease was ending: nobody else could make sense of its rest. */
    if (b->stash != NULL || b->body_left > 0)
        return LEASE_BROKEN;
    if (s->flags & SESSION_SKIP_TO_SYNC)
        b->dirt |= DIRT_SYNC | DIRT_ROLLBACK;
    else if (b->status != 'I' || b->needs_sync)
        b->dirt |= DIRT_ROLLBACK;
    if (b->cancels_sent > 0)
        b->dirt |= DIRT_CANCEL;
    if (UNLIKELY(b->reported || b->all_reset || b->applied_touched))
        session_parameters_released(w, s);
    b->undone = 0; /* the transaction did not come to its end */
    if (UNLIKELY(b->effective->cleanup_verify))
        b->dirt |= DIRT_VERIFY;
    if (UNLIKELY(b->effective->server_reset_query != NULL))
        b->dirt |= DIRT_RESET;
    if (!b->effective->cleanup_server_connections)
        b->dirt &= (uint16_t)~DIRT_STATE;
    bool comes_back = s->mode == POOL_MODE_TRANSACTION && s->client == CLIENT_OPEN;
    b->temp_owner = comes_back && (b->dirt & DIRT_LAZY) ? actor_id_of(&s->actor) : 0;
    uint16_t now = b->temp_owner != 0 ? b->dirt & (uint16_t)~DIRT_LAZY : b->dirt;
    return now != 0 ? LEASE_DIRTY : LEASE_CLEAN;
}

static void released(struct worker *w, struct session *s)
{
    /* The batch that was put back has done nothing yet. */
    bool cancelled = s->cancel_due && s->in != NULL;

    s->cancel_due = false;
    if (s->client != CLIENT_OPEN) {
        session_go(s, SESSION_CLOSED);
        return;
    }
    if (UNLIKELY(cancelled && (s->flags & SESSION_DRAIN) == 0)) {
        s->replayed = false;
        session_end_wait(w, s);
        return;
    }
    session_go(s, SESSION_IDLE);
    if (UNLIKELY(s->flags & SESSION_DRAIN) && session_drained(w, s))
        return;
    if (s->in != NULL)
        session_on_client_input(w, s);
}

void session_release(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (s->phase != SESSION_RELEASING)
        session_go(s, SESSION_RELEASING);
    /* A lease ends with nothing in flight, or the next holder would get what is not its own. */
    if (!conn_recv_stop(w, &b->conn))
        return;
    if (!conn_sent_all(&b->conn)) {
        conn_flush(w, &b->conn);
        if (!conn_sent_all(&b->conn)) {
            conn_want_sent(w, &b->conn);
            return;
        }
    }
    enum lease_end how = judge(w, s);
    if (how == LEASE_BROKEN) {
        session_close_backend(w, s);
        return;
    }
    session_give_back(w, s, how);
    released(w, s);
}

void session_close_backend(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (s->phase != SESSION_RELEASING)
        session_go(s, SESSION_RELEASING);
    b->broken = true;
    if (b->streaming != 0)
        session_stream_ends(w, s);
    if (!conn_close(w, &b->conn))
        return; /* MESSAGE_CLOSED comes */
    session_give_back(w, s, LEASE_BROKEN);
    released(w, s);
}

/* --- when the client goes first --- */

void session_drain_step(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (s->drained_bytes > DRAIN_BYTES || b->copy_in || b->broken) {
        session_close_backend(w, s);
        return;
    }
    if (ledger_empty(&b->ledger) && b->stash == NULL && b->body_left == 0)
        session_release(w, s);
}

/* Without a Sync the server may keep its replies to itself. A Flush fetches them and, unlike a
 * Sync, commits nothing. */
void session_ask_for_replies(struct worker *w, struct backend *b)
{
    static const uint8_t flush[] = {'H', 0, 0, 0, 4};

    if (!ledger_empty(&b->ledger) && !ledger_ends_ready(&b->ledger))
        conn_put_copy(w, &b->conn, flush, sizeof flush);
}

void session_abandon(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (s->phase != SESSION_BOUND)
        return; /* on its way already */
    session_go(s, SESSION_DRAINING);
    s->drained_bytes = 0;
    s->flags &= (uint16_t) ~(SESSION_SERVER_PAUSED | SESSION_CLIENT_PAUSED);
    /* A request of which the server has only a part, or a COPY without its end, can be ended by
     * closing only. */
    if (s->body_left > 0 && (s->flags & SESSION_DISCARD) == 0)
        b->broken = true;
    s->body_left = 0;
    session_ask_for_replies(w, b);
    session_drain_step(w, s);
    if (s->phase == SESSION_DRAINING && !s->terminated && b->config->general.cancel_on_disconnect)
        session_watch_abandoned(w, s);
}

/* --- when the server goes first --- */

void session_backend_lost(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    bool told = s->flags & SESSION_FATAL_SEEN;
    bool waiting = !ledger_empty(&b->ledger);

    b->broken = true;
    if (b->stash != NULL)
        rbuf_unref(w, b->stash);
    b->stash = NULL;
    if (s->phase == SESSION_BOUND) {
        session_go(s, SESSION_DRAINING);
        if (told)
            session_told(w, s, "server ended the connection");
        else
            session_fatal(w, s, "08006",
                          waiting ? "server closed the connection unexpectedly"
                                  : "server closed the connection unexpectedly while client was "
                                    "idle in transaction",
                          true);
    }
    session_close_backend(w, s);
}
