/* COPY FROM STDIN.
 *
 * PostgreSQL reads what follows the statement as part of the copy: a Sync there is ignored, any
 * other request ends the connection. If the copy fails, the rest of its data is ignored, and each
 * Sync that is still to be read is answered. So nothing is sent behind what may be a COPY until it
 * is known to be one, or not (ENTRY_COPIES), but for the Sync of its batch.
 *
 * How much of what is sent during the copy the server had read when it failed, it does not tell. If
 * it matters, the pooler asks with a Sync of its own, Close of a portal that nobody has and another
 * Sync: of what is ready before the CloseComplete, the last is the pooler's and all else the
 * client's. If a request comes that is not for a copy, the same is asked in its place. Nothing is
 * sent behind the question. */
#include "actors/session.h"

void session_copy_expected(struct ledger *l)
{
    struct ledger_entry *entry = ledger_last(l);

    entry->marks |= ENTRY_COPIES;
    if ((entry->owns & OWNS_HOLD) == 0)
        ledger_doubt(l, true);
}

/* A Query may have more than one COPY in it. */
bool session_copy_takes(const struct session *s)
{
    const struct ledger_entry *last = ledger_last(&s->backend->ledger);

    return s->in != NULL && session_input(s)[0] == 'S' && last->kind == ASK_EXECUTE &&
           (last->marks & ENTRY_COPIES) && s->backend->ledger.holds == 1;
}

void session_copy_begins(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct ledger *l = &b->ledger;

    /* It could not be begun again, since its data is not kept. */
    session_replay_done(w, b);
    s->flags |= SESSION_COPY_IN;
    b->copy_in = true;
    s->copy_synced = false;
    if (ledger_empty(l))
        return;
    ledger_sure(l);
    if (ledger_count(l) == 2 && ledger_last(l)->kind == ASK_SYNC) {
        s->copy_synced = true;
        l->tail--;
    }
    /* What waits in the input is looked at anew: now CopyData is a batch. */
    s->in_scanned = 0;
    s->flags &= (uint16_t)~SESSION_BATCH;
}

void session_copy_ends(struct session *s)
{
    struct ledger *l = &s->backend->ledger;

    s->flags &= (uint16_t)~SESSION_COPY_IN;
    s->backend->copy_in = false;
    if (ledger_count(l) == 1 && (s->copy_synced || ledger_last(l)->kind == ASK_QUERY))
        session_copy_expected(l);
}

void session_copy_done(struct session *s)
{
    s->copy_synced = false;
}

static void send_question(struct worker *w, struct session *s)
{
    static const uint8_t question[] = "S\0\0\0\4"
                                      "C\0\0\0\25PDOORMAN_missing\0"
                                      "S\0\0\0\4";

    s->copy_due = false;
    conn_put_copy(w, &s->backend->conn, question, sizeof question - 1);
}

/* Behind the COPY there is nothing in the ledger but, perhaps, a Sync that the server answers for
 * sure. It is taken for the pooler's. */
static void ask(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct ledger *l = &b->ledger;
    bool synced = ledger_last(l)->kind == ASK_SYNC;

    s->copy_skips = ledger_head(l)->kind == ASK_EXECUTE && !synced;
    s->copy_asked = true;
    s->copy_held = false;
    if (!synced)
        ledger_push(l, ASK_SYNC, FOR_CLIENT);
    ledger_push(l, ASK_CLOSE, FOR_POOLER);
    ledger_push(l, ASK_SYNC, FOR_POOLER);
    ledger_doubt(l, true);
    b->needs_sync = true;
    s->copy_due = s->body_left > 0 && (s->flags & SESSION_DISCARD) == 0;
    if (!s->copy_due) /* else the server is in the middle of a message */
        send_question(w, s);
}

void session_copy_ask(struct worker *w, struct session *s)
{
    if (!s->copy_asked)
        ask(w, s);
}

void session_copy_failed(struct worker *w, struct session *s)
{
    if (s->copy_asked)
        return;
    if (s->phase == SESSION_BOUND && !ledger_empty(&s->backend->ledger))
        ask(w, s);
    else
        s->flags |= SESSION_BAD_BACKEND;
    s->copy_synced = false;
}

void session_copy_passed(struct worker *w, struct session *s)
{
    if (s->phase == SESSION_BOUND && s->body_left == 0)
        send_question(w, s);
}

/* "unexpected message type 0x43 during COPY from stdin", in whatever language. */
void session_copy_translate(const struct session *s, uint8_t *error, uint32_t len)
{
    static const char digits[] = "0123456789ABCDEF";
    uint8_t type = s->in == NULL ? 'C' : session_input(s)[0];

    for (uint32_t i = 0; i + 4 <= len; i++) {
        if (memcmp(error + i, "0x43", 4) != 0)
            continue;
        error[i + 2] = (uint8_t)digits[type >> 4];
        error[i + 3] = (uint8_t)digits[type & 15];
        return;
    }
}

/* The question is answered: both sides know as much, if the client is where the server was. */
static void over(struct session *s)
{
    struct backend *b = s->backend;

    s->copy_asked = s->copy_synced = false;
    b->needs_sync = s->copy_skips;
    if (s->copy_skips)
        s->flags |= SESSION_SKIP_TO_SYNC;
}

bool session_copy_ready(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct ledger_entry *head = ledger_head(&b->ledger);
    uint8_t ready[] = {'Z', 0, 0, 0, 5, (uint8_t)b->status};

    if (head == NULL || (head->kind == ASK_QUERY && head->whose == FOR_CLIENT))
        return false;
    if (head->kind == ASK_SYNC && head->whose == FOR_POOLER) {
        ledger_pop(&b->ledger);
        over(s);
        return true;
    }
    if (s->copy_held) {
        /* What was held is not the last. Nothing was done in between: the status is the same. */
        s->copy_skips = false;
        if (session_client_listens(s))
            conn_put_copy(w, &s->conn, ready, sizeof ready);
    }
    s->copy_held = true;
    return true;
}

bool session_copy_known(struct session *s)
{
    struct ledger *l = &s->backend->ledger;
    const struct ledger_entry *head = ledger_head(l);

    if (head == NULL || head->kind != ASK_SYNC)
        return false;
    ledger_pop(l);
    INVARIANT(ledger_head(l)->kind == ASK_CLOSE);
    ledger_pop(l);
    return true;
}
