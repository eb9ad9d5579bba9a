/* When a backend turns out not to hold what it was taken to hold: somebody deallocated under the
 * pooler's names, or a plan is out of date since a table was changed.
 *
 * A client that has not seen anything of its batch yet need not learn of it: the server's error is
 * swallowed, and the batch put back into the input, from the message that failed. */
#define LOG_MODULE "pg_doorman::server::prepared_statement_cache"
#include "actors/session.h"

#include "runtime/log.h"

enum { REPLAY_MAX = 16 << 10 };

void session_visible(struct session *s, struct ledger_entry *entry)
{
    (void)entry;
    s->backend->visible = true;
}

/* Keeps the batch, from the message at the head of the input, until it has its first answer. */
void session_replayable(struct session *s, struct ledger_entry *entry)
{
    struct backend *b = s->backend;

    if (b->visible)
        return;
    b->visible = true;
    session_replay_done(worker_self(), b);
    if (s->replayed || b->status != 'I' || !s->batch_synced || s->in_scanned > REPLAY_MAX)
        return;
    entry->marks |= ENTRY_FIRST;
    b->replay = rbuf_ref(s->in);
    b->replay_at = s->in_at;
    b->replay_end = s->in_at + s->in_scanned;
}

void session_replay_done(struct worker *w, struct backend *b)
{
    if (b->replay == NULL)
        return;
    rbuf_unref(w, b->replay);
    b->replay = NULL;
}

static bool is_state(const struct error_fields *fields, const char *sqlstate)
{
    return bytes_equal(fields->sqlstate, bytes_of(sqlstate));
}

enum trouble { NO_TROUBLE, LOST, OUTDATED, IN_THE_WAY };

static enum trouble recognise(const struct session *s, const struct ledger_entry *head,
                              const struct error_fields *fields)
{
    bool uses = head->kind == ASK_BIND || head->kind == ASK_DESCRIBE_STATEMENT;

    if ((s->flags & SESSION_REMAP) == 0 || head->whose == FOR_MISSING || head->statement == NULL)
        return NO_TROUBLE;
    if (uses && is_state(fields, "26000"))
        return LOST;
    if (uses && is_state(fields, "0A000") &&
        bytes_equal(fields->routine, bytes_of("RevalidateCachedQuery")))
        return OUTDATED;
    return head->kind == ASK_PARSE && is_state(fields, "42P05") ? IN_THE_WAY : NO_TROUBLE;
}

/* Can the client be spared? Its Sync was the last that was sent, so nothing overtakes it. */
static bool may_replay(struct session *s, const struct ledger_entry *head, enum trouble trouble)
{
    struct backend *b = s->backend;

    if ((head->marks & ENTRY_FIRST) == 0 || b->replay == NULL || !ledger_ends_ready(&b->ledger) ||
        ledger_syncs(&b->ledger) != 1)
        return false;
    /* A client that prepared it before the change would get this error from PostgreSQL too. */
    return trouble == LOST || (trouble == OUTDATED && head->statement == b->skipped);
}

bool session_heal(struct worker *w, struct session *s, struct ledger_entry *head,
                  const struct error_fields *fields)
{
    struct backend *b = s->backend;
    enum trouble trouble = recognise(s, head, fields);

    if (LIKELY(trouble == NO_TROUBLE))
        return false;
    atomic_fetch_add_explicit(&statement_events.lost, 1, memory_order_relaxed);
    log_warn(SESSION_LOG(s) "server rejected prepared statement %s pid=%d: %.*s %.*s",
             SESSION_ID(s), head->statement->name, b->pid, (int)fields->sqlstate.len,
             (const char *)fields->sqlstate.at, (int)fields->message.len,
             (const char *)fields->message.at);
    bool replay = may_replay(s, head, trouble);
    ledger_own_all(&b->ledger);
    if (trouble == LOST)
        statement_set_remove(b->statements, head->statement);
    else
        statement_retire(head->statement); /* on no backend will it be asked for again */
    /* Twice within a minute: who knows what else is wrong. */
    if (b->trouble_us != 0 && elapsed_us(w, b->trouble_us) < 60000000)
        b->dirt |= SCAN_PREPARE;
    b->trouble_us = w->now_us;
    if (!replay)
        return false;
    atomic_fetch_add_explicit(&statement_events.replayed, 1, memory_order_relaxed);
    s->replayed = true;
    s->skip_parameters = head->marks & ENTRY_DESCRIBED;
    ledger_last(&b->ledger)->whose = FOR_POOLER;
    b->replaying = true;
    /* What was to be cancelled is what fails here, and will be sent again. */
    s->cancel_due |= b->cancels_sent > 0;
    return true;
}

/* The batch's ReadyForQuery has come. */
void session_replay(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    uint32_t len = b->replay_end - b->replay_at;
    uint32_t waiting = session_input_len(s);

    if (b->status != 'I') {
        /* A BEGIN of ours came before it, and nothing else. */
        static const uint8_t rollback[] = {'Q', 0,   0,   0,   13,  'R', 'O',
                                           'L', 'L', 'B', 'A', 'C', 'K', 0};

        ledger_push(&b->ledger, ASK_QUERY, FOR_POOLER);
        conn_put_copy(w, &b->conn, rollback, sizeof rollback);
        session_send_begin(w, s);
    }
    if (waiting == 0) {
        INVARIANT(s->in == NULL);
        s->in = rbuf_ref(b->replay);
        s->in_at = b->replay_at;
        s->in_end = b->replay_end;
    } else {
        struct rbuf *joined = rbuf_take_bytes(w, (size_t)len + waiting);

        memcpy(joined->data, b->replay->data + b->replay_at, len);
        memcpy(joined->data + len, session_input(s), waiting);
        rbuf_unref(w, s->in);
        s->in = joined;
        s->in_at = 0;
        s->in_end = len + waiting;
    }
    s->in_scanned = len;
    s->flags |= SESSION_BATCH;
    session_replay_done(w, b);
}
