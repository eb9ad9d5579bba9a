/* What may take only so long: a side that takes no bytes, a statement that nobody waits for any
 * more, a client that is silent, a query that runs. Alarms cannot be taken back, so each looks for
 * itself what has become of its cause. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/session.h"

#include "runtime/log.h"
#include "runtime/world.h"

#include <stdlib.h>

enum {
    SERVER_WRITE_US = 5000000,
    ABANDONED_US = 100000, /* how long what a client left running may go on undisturbed */
    ABANDONED_TRIES = 5,   /* each after twice the time: 100 ms to 3.1 s */
};

/* --- bytes that nobody takes --- */

struct side {
    const struct conn *conn;
    uint64_t *held_us;
    uint32_t *mark; /* what had been taken at held_us; 0: nobody has looked */
    uint64_t limit_us;
};

/* False: that side takes bytes, or nobody waits for it. */
static bool held_client(struct session *s, struct side *side)
{
    if (s->backend == NULL || (s->flags & SESSION_SERVER_PAUSED) == 0 || s->client != CLIENT_OPEN)
        return false;
    *side = (struct side){&s->conn, &s->server_held_us, &s->client_mark,
                          s->backend->config->general.proxy_copy_data_timeout * 1000};
    return true;
}

static bool held_server(struct session *s, struct side *side)
{
    if (s->backend == NULL || (s->flags & SESSION_CLIENT_PAUSED) == 0)
        return false;
    *side = (struct side){&s->backend->conn, &s->client_held_us, &s->server_mark, SERVER_WRITE_US};
    return true;
}

/* When to look next. The first look only takes the mark: most pauses are over before. */
static uint64_t side_due_us(const struct side *side)
{
    return *side->held_us + (*side->mark == 0 ? side->limit_us / 4 : side->limit_us);
}

/* One alarm does, however often a transfer stops and goes. */
void session_watch_progress(struct worker *w, struct session *s)
{
    uint64_t due_us = UINT64_MAX;
    struct side side;

    if (held_client(s, &side))
        due_us = side_due_us(&side);
    if (held_server(s, &side))
        due_us = MIN(due_us, side_due_us(&side));
    if (due_us == UINT64_MAX || (s->watched_us != 0 && s->watched_us <= due_us))
        return;
    s->watched_us = due_us;
    actor_alarm(w, actor_id_of(&s->actor), due_us, WATCH_ALARM);
}

/* Has it taken nothing for the whole of its time? As long as it takes anything, the time begins
 * anew. */
static bool side_is_stuck(const struct worker *w, const struct side *side)
{
    uint32_t mark = (uint32_t)(io_taken(side->conn->fd) * 31 + side->conn->out_bytes) | 1;

    if (w->now_us < side_due_us(side))
        return false;
    if (mark == *side->mark)
        return true;
    *side->mark = mark;
    *side->held_us = w->now_us;
    return false;
}

static void on_watch_alarm(struct worker *w, struct session *s)
{
    struct side side;

    s->watched_us = 0;
    if (held_server(s, &side) && side_is_stuck(w, &side)) {
        s->backend->broken = true;
        if (s->client != CLIENT_OPEN)
            session_close_backend(w, s);
        else
            session_fatal(w, s, "58006",
                          "pooler is shut down now (flush timeout: server did not accept data "
                          "within the timeout period)",
                          false);
        return;
    }
    if (held_client(s, &side) && side_is_stuck(w, &side)) {
        s->backend->broken = true;
        /* What it was sent of a message cannot be taken back, so it cannot be told either. */
        session_close(w, s, "client does not read");
        return;
    }
    session_watch_progress(w, s);
}

/* --- what nobody waits for --- */

/* The backend is told to stop. That ends one statement; if more were sent behind it, or the server
 * takes no notice, it is told again. */
void session_watch_abandoned(struct worker *w, struct session *s)
{
    s->lease_batches = 0; /* counts the tries from here on */
    actor_alarm(w, actor_id_of(&s->actor), w->now_us + ABANDONED_US, ABANDONED_ALARM);
}

static void on_abandoned_alarm(struct worker *w, struct session *s)
{
    if (s->phase != SESSION_DRAINING)
        return;
    if (++s->lease_batches > ABANDONED_TRIES) {
        session_close_backend(w, s);
        return;
    }
    log_info(SESSION_LOG(s) "client has gone, cancelling its statement pid=%d", SESSION_ID(s),
             s->backend->pid);
    session_cancel_backend(w, s, 0);
    actor_alarm(w, actor_id_of(&s->actor), w->now_us + (ABANDONED_US << s->lease_batches),
                ABANDONED_ALARM);
}

/* --- limits that may be set --- */

enum activity { WAITS_ITS_TURN, SILENT, SILENT_IN_TRANSACTION, RUNS };

static enum activity activity(const struct session *s)
{
    if (s->phase == SESSION_IDLE)
        return s->begin_owed ? SILENT_IN_TRANSACTION : SILENT;
    if (s->phase != SESSION_BOUND)
        return WAITS_ITS_TURN;
    if (!ledger_empty(&s->backend->ledger))
        return RUNS;
    return s->backend->status == 'I' && !s->backend->needs_sync ? SILENT : SILENT_IN_TRANSACTION;
}

/* The time that its activity may take; 0: no limit. */
static uint64_t limit_us(const struct general_config *g, enum activity a)
{
    switch (a) {
    case SILENT: return g->client_idle_timeout * 1000;
    case SILENT_IN_TRANSACTION: return g->idle_transaction_timeout * 1000;
    case RUNS: return g->query_timeout * 1000;
    case WAITS_ITS_TURN: break;
    }
    return 0;
}

/* The least of those that are set; 0: none is. */
static uint64_t period_us(const struct general_config *g)
{
    const uint64_t set_ms[] = {g->client_idle_timeout, g->idle_transaction_timeout,
                               g->query_timeout};
    uint64_t least_ms = 0;

    for (size_t i = 0; i < COUNT_OF(set_ms); i++) {
        if (set_ms[i] != 0 && (least_ms == 0 || set_ms[i] < least_ms))
            least_ms = set_ms[i];
    }
    return least_ms * 1000;
}

static void limit_reached(struct worker *w, struct session *s, enum activity a)
{
    switch (a) {
    case SILENT:
        session_fatal(w, s, "57P05", "terminating connection due to idle-session timeout", false);
        return;
    case SILENT_IN_TRANSACTION:
        session_fatal(w, s, "25P03", "terminating connection due to idle-in-transaction timeout",
                      false);
        return;
    case RUNS:
        log_info(SESSION_LOG(s) "query_timeout, cancelling the statement pid=%d", SESSION_ID(s),
                 s->backend->pid);
        session_cancel_backend(w, s, 0);
        return;
    case WAITS_ITS_TURN: return;
    }
}

/* Of which limits alarms go round; those of earlier ones are void. */
static _Atomic uint32_t limits_generation;

static bool same_limits(const struct general_config *a, const struct general_config *b)
{
    return a->client_idle_timeout == b->client_idle_timeout &&
           a->idle_transaction_timeout == b->idle_transaction_timeout &&
           a->query_timeout == b->query_timeout;
}

void sessions_follow_limits(struct worker *w, const struct config *before, const struct config *now)
{
    size_t count = 0;

    if (same_limits(&before->general, &now->general))
        return;
    uint64_t token = LIMIT_ALARM | (atomic_fetch_add(&limits_generation, 1) + 1u);
    actor_id *sessions = actor_list(&session_type, &count);
    for (size_t i = 0; i < count; i++)
        actor_alarm(w, sessions[i], w->now_us, token);
    free(sessions);
}

/* One alarm per session goes round as long as a limit is set; a request costs nothing more. (Two,
 * till the next change, if the login ends just when limits change.) */
void session_watch_limits(struct worker *w, struct session *s)
{
    /* Read first: a configuration is in force before its generation counts. */
    uint64_t token = LIMIT_ALARM | atomic_load(&limits_generation);
    struct config *config = app_config();
    uint64_t every_us = period_us(&config->general);
    enum activity a = activity(s);
    uint64_t allowed_us = limit_us(&config->general, a);
    uint64_t due_us = s->query_us + allowed_us;

    config_unref(config);
    if (every_us == 0 || s->client != CLIENT_OPEN)
        return;
    if (allowed_us != 0 && due_us <= w->now_us) {
        limit_reached(w, s, a);
        due_us = 0;
    }
    /* Whatever it begins to do meanwhile cannot be over its time before. */
    uint64_t next_us = w->now_us + every_us;
    if (allowed_us != 0 && due_us > w->now_us)
        next_us = MIN(next_us, due_us);
    actor_alarm(w, actor_id_of(&s->actor), next_us, token);
}

static void on_limit_alarm(struct worker *w, struct session *s, uint64_t token)
{
    if ((uint32_t)token == atomic_load(&limits_generation) && (s->flags & SESSION_LOGGED_IN) != 0 &&
        s->shared != NULL)
        session_watch_limits(w, s);
}

void session_on_alarm(struct worker *w, struct session *s, struct message *m)
{
    if (m->alarm.token == WATCH_ALARM)
        on_watch_alarm(w, s);
    else if (m->alarm.token == ABANDONED_ALARM)
        on_abandoned_alarm(w, s);
    else if (m->alarm.token == TRIM_ALARM)
        session_trim_statements(w, s);
    else if ((m->alarm.token & LIMIT_ALARM) != 0)
        on_limit_alarm(w, s, m->alarm.token);
    else if (m->alarm.token == s->alarm && (s->client != CLIENT_OPEN || s->phase == SESSION_CANCEL))
        session_close(w, s, NULL);
}
