/* From the client to the server.
 *
 * Messages wait in the input until the batch that they begin is complete (Sync, Flush, Query,
 * FunctionCall), and go out in one piece. So a client that vanishes in the middle has touched
 * nothing, and composing a batch holds no backend. A batch that grows too large is begun early. */
#define LOG_MODULE "pg_doorman::client::protocol"
#include "actors/session.h"

#include "runtime/log.h"

#include <stdio.h>

enum scan { SCAN_MORE, SCAN_READY, SCAN_TERMINATE, SCAN_BROKEN, SCAN_UNKNOWN, SCAN_TOO_LARGE };

static bool is_copy(uint8_t type)
{
    return type == 'd' || type == 'c' || type == 'f';
}

static bool ends_batch(uint8_t type)
{
    return type == 'S' || type == 'H' || type == 'Q' || type == 'F' || type == 'd' || type == 'c' ||
           type == 'f';
}

static bool known_type(uint8_t type)
{
    return ends_batch(type) || type == 'P' || type == 'B' || type == 'D' || type == 'E' ||
           type == 'C' || type == 'X';
}

/* Which backend it will be is not known yet while it has none. */
static bool may_remap(const struct session *s)
{
    return (s->flags & SESSION_REMAP) ||
           (s->phase == SESSION_IDLE && s->mode == POOL_MODE_TRANSACTION);
}

/* A message that may be begun before it is whole: the rest is passed as it comes. What is rewritten
 * must be whole, or, for Bind, have both its names. Of a Parse it must be known whether it has a
 * name. */
static bool may_begin(const struct session *s, const struct frame *f)
{
    if (f->type == 'Q' || f->type == 'F' || f->type == 'd')
        return true;
    if (f->type == 'P')
        return !may_remap(s) && f->have > 0;
    if (f->type != 'B')
        return false;
    struct cursor c = cursor_of(f->body, f->have);
    cursor_string(&c);
    cursor_string(&c);
    return !c.bad;
}

/* Looks for the end of the batch. in_scanned moves over whole messages, so that nothing is looked
 * at twice; bad_type is for the error's text. */
static enum scan scan_more(struct session *s, uint8_t *bad_type)
{
    const uint8_t *input = session_input(s);
    uint32_t from = s->in_scanned;
    uint32_t len = session_input_len(s);
    struct frame f;

    while (s->in_scanned < len) {
        enum frame_result result = frame_peek(&f, input + s->in_scanned, len - s->in_scanned,
                                              FRAME_LIMIT);

        if (result == FRAME_BROKEN)
            return SCAN_BROKEN;
        if (f.body == NULL) {
            *bad_type = input[s->in_scanned];
            if (!known_type(*bad_type))
                return SCAN_UNKNOWN;
            s->batch_synced = false;
            return may_remap(s) && session_will_fail(s, from, s->in_scanned) ? SCAN_READY
                                                                             : SCAN_MORE;
        }
        *bad_type = f.type;
        if (!known_type(f.type))
            return SCAN_UNKNOWN;
        if (f.body_len > atomic_load_explicit(&app.input_limit, memory_order_relaxed))
            return SCAN_TOO_LARGE;
        if (result == FRAME_PARTIAL) {
            if (f.type == 'd' && s->phase == SESSION_BOUND)
                return SCAN_READY;
            if (may_remap(s) && session_will_fail(s, from, s->in_scanned))
                return SCAN_READY;
            /* What has come counts, not what was announced: promises hold no backend. */
            return len >= BATCH_HIGH && may_begin(s, &f) ? SCAN_READY : SCAN_MORE;
        }
        if (f.type == 'X')
            return SCAN_TERMINATE;
        /* CopyData and its end, where no COPY is, end no batch: they are dropped with it. */
        s->batch_synced = f.type == 'S';
        bool stray = is_copy(f.type) && (s->flags & SESSION_COPY_IN) == 0 && s->in_scanned > 0;
        s->in_scanned += FRAME_HEADER + f.body_len;
        if (ends_batch(f.type) && !stray)
            return SCAN_READY;
    }
    s->batch_synced = false;
    if (len >= BATCH_HIGH)
        return SCAN_READY;
    return may_remap(s) && session_will_fail(s, from, s->in_scanned) ? SCAN_READY : SCAN_MORE;
}

/* A batch that was found stays found while it waits for a backend. */
static enum scan scan_batch(struct session *s, uint8_t *bad_type)
{
    if (s->flags & SESSION_BATCH)
        return SCAN_READY;
    enum scan found = scan_more(s, bad_type);
    if (found == SCAN_READY)
        s->flags |= SESSION_BATCH;
    return found;
}

/* --- passing --- */

static void pass_bytes(struct worker *w, struct session *s, uint32_t len)
{
    struct backend *b = s->backend;

    conn_put(w, &b->conn, s->in, session_input(s), len);
    b->bytes_sent += len;
    COUNT(counters_of(w, s->shared)->bytes_sent, len);
    session_consume(w, s, len);
}

void session_pass(struct worker *w, struct session *s, const struct frame *f, uint32_t skip)
{
    uint32_t have = MIN(FRAME_HEADER + f->body_len, session_input_len(s));

    s->body_left = FRAME_HEADER + f->body_len - have;
    session_consume(w, s, skip);
    pass_bytes(w, s, have - skip);
}

void session_discard(struct worker *w, struct session *s, const struct frame *f)
{
    uint32_t have = MIN(FRAME_HEADER + f->body_len, session_input_len(s));

    s->body_left = FRAME_HEADER + f->body_len - have;
    if (s->body_left > 0)
        s->flags |= SESSION_DISCARD;
    session_consume(w, s, have);
}

/* The rest of a message that was begun. False: more has to come. */
static bool pass_rest(struct worker *w, struct session *s)
{
    uint32_t len = (uint32_t)MIN((uint64_t)session_input_len(s), s->body_left);

    if (len == 0)
        return false;
    s->body_left -= len;
    if (s->flags & SESSION_DISCARD)
        session_consume(w, s, len);
    else
        pass_bytes(w, s, len);
    if (s->body_left == 0)
        s->flags &= (uint16_t)~SESSION_DISCARD;
    return s->body_left == 0;
}

/* --- the unnamed statement, where statements are not remapped --- */

/* Behind the ledger_push of a Parse, which takes the place of whatever is there, if the server
 * comes to it: behind requests that may fail no other batch may count on it. */
static void note_unnamed(struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;

    if (f->have == 0 || f->body[0] != '\0')
        return;
    ledger_last(&b->ledger)->marks |= ENTRY_UNNAMED;
    if (LIKELY(b->unnamed_owner == actor_id_of(&s->actor)))
        return;
    b->unnamed_owner = actor_id_of(&s->actor);
    if (ledger_count(&b->ledger) > 1)
        ledger_doubt(&b->ledger, false);
}

/* A holder of before may have left one: its text is nobody else's to run. */
static bool finds_strangers(const struct session *s, struct bytes name)
{
    return name.len == 0 && UNLIKELY(s->backend->unnamed_owner != actor_id_of(&s->actor));
}

static bool binds_strangers(const struct session *s, const struct frame *f)
{
    struct cursor c = cursor_of(f->body, f->have);

    cursor_string(&c); /* the portal's name */
    struct bytes name = cursor_string(&c);
    return !c.bad && finds_strangers(s, name);
}

/* A malformed one is the server's to refuse. */
static bool describes_strangers(const struct session *s, const struct frame *f)
{
    struct cursor c = cursor_of(f->body, f->have);
    bool of_statement = cursor_u8(&c) == 'S';
    struct bytes name = cursor_string(&c);

    return of_statement && !c.bad && cursor_left(&c) == 0 && finds_strangers(s, name);
}

static void forward_extended(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;

    b->needs_sync = true;
    switch (f->type) {
    case 'P':
        if (s->flags & SESSION_REMAP) {
            session_forward_parse(w, s, f);
            return;
        }
        ledger_push(&b->ledger, ASK_PARSE, FOR_CLIENT);
        session_state_parse(w, s, f);
        note_unnamed(s, f);
        break;
    case 'B':
        if ((s->flags & SESSION_REMAP) || binds_strangers(s, f)) {
            session_forward_bind(w, s, f);
            return;
        }
        ledger_push(&b->ledger, ASK_BIND, FOR_CLIENT);
        break;
    case 'D':
        if (((s->flags & SESSION_REMAP) && f->have > 0 && f->body[0] == 'S') ||
            describes_strangers(s, f)) {
            session_forward_describe(w, s, f);
            return;
        }
        ledger_push(&b->ledger,
                    f->have > 0 && f->body[0] == 'S' ? ASK_DESCRIBE_STATEMENT : ASK_DESCRIBE_PORTAL,
                    FOR_CLIENT);
        break;
    case 'C':
        if ((s->flags & SESSION_REMAP) && f->have > 0 && f->body[0] == 'S') {
            session_forward_close(w, s, f);
            return;
        }
        ledger_push(&b->ledger, ASK_CLOSE, FOR_CLIENT);
        break;
    default:
        ledger_push(&b->ledger, ASK_EXECUTE, FOR_CLIENT);
        /* It takes the statements with it that the next messages may count on. */
        if ((b->traits & TEXT_CLEARS) && (s->flags & SESSION_REMAP))
            ledger_doubt(&b->ledger, true);
        if (UNLIKELY(b->may_copy))
            session_copy_expected(&b->ledger);
        break;
    }
    session_visible(s, ledger_last(&b->ledger));
    session_pass(w, s, f, 0);
}

static void forward_copy(struct worker *w, struct session *s, const struct frame *f)
{
    /* Outside of COPY the server ignores these; here they need not travel. */
    if ((s->flags & SESSION_COPY_IN) == 0) {
        session_discard(w, s, f);
        return;
    }
    if (f->type != 'd')
        session_copy_ends(s);
    session_pass(w, s, f, 0);
}

static void forward_sync(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;

    if ((s->flags & SESSION_COPY_IN) == 0) {
        s->flags &= (uint16_t)~SESSION_SKIP_TO_SYNC;
        /* Who knows whether a COPY would take what is sent ahead of it. */
        if ((s->flags & SESSION_REMAP) && LIKELY(b->ledger.holds == 0))
            session_before_sync(w, s);
        b->traits = 0;
        ledger_push(&b->ledger, ASK_SYNC, FOR_CLIENT);
    } else {
        s->copy_synced = true;
    }
    session_pass(w, s, f, 0);
}

static void forward_message(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;
    bool copying = s->flags & SESSION_COPY_IN;

    if (s->flags & SESSION_SKIP_TO_SYNC) {
        if (f->type != 'S') {
            session_discard(w, s, f); /* the server would */
            return;
        }
    } else if ((s->flags & SESSION_REMAP) && !copying && !is_copy(f->type) &&
               ledger_empty(&b->ledger)) {
        session_close_excess(w, s);
    }
    switch (f->type) {
    case 'Q':
    case 'F':
        ledger_push(&b->ledger, f->type == 'Q' ? ASK_QUERY : ASK_FUNCTION, FOR_CLIENT);
        session_state_query(w, s, f);
        session_visible(s, ledger_last(&b->ledger));
        b->needs_sync = true; /* until its ReadyForQuery */
        session_pass(w, s, f, 0);
        return;
    case 'S': forward_sync(w, s, f); return;
    case 'H':
        s->flags |= SESSION_FLUSHED | SESSION_ASYNC;
        session_pass(w, s, f, 0);
        return;
    case 'd':
    case 'c':
    case 'f': forward_copy(w, s, f); return;
    default: forward_extended(w, s, f);
    }
}

/* One batch, or what there is of it. */
static void forward_batch(struct worker *w, struct session *s)
{
    struct frame f;

    struct ledger *l = &s->backend->ledger;

    s->flags &= (uint16_t)~SESSION_BATCH;
    if (ledger_empty(l)) {
        s->query_us = w->now_us;
        /* What was sent since the last Sync is part of the same transaction. */
        s->backend->visible &= s->backend->needs_sync;
        if (!s->backend->needs_sync)
            s->backend->traits = 0;
    }
    s->backend->skipped = NULL;
    bool first = true; /* answer_bound() has looked at it */
    while (s->in != NULL && s->phase == SESSION_BOUND) {
        bool whole = s->in_scanned > 0;
        enum frame_result result = frame_peek(&f, session_input(s), session_input_len(s),
                                              FRAME_LIMIT);

        if (result != FRAME_WHOLE && (whole || f.body == NULL || !may_begin(s, &f)))
            break;
        if (!whole && result == FRAME_WHOLE)
            break; /* not looked at yet */
        uint8_t type = f.type;
        if (type == 'Q' && !first && (s->flags & SESSION_REMAP) && session_is_deallocate(s, &f)) {
            s->flags |= SESSION_BATCH; /* a batch of its own */
            break;
        }
        first = false;
        if ((s->flags & SESSION_COPY_IN) && type != 'S' && type != 'H' && !is_copy(type)) {
            session_copy_ask(w, s);
            s->flags |= SESSION_BATCH;
            break;
        }
        forward_message(w, s, &f);
        /* Counted where a ReadyForQuery will come, so that waiting for it ends. */
        s->lease_batches += type == 'S' || type == 'Q' || type == 'F';
        bool dropped = is_copy(type) && (s->flags & SESSION_COPY_IN) == 0;
        if ((ends_batch(type) && !dropped) || s->body_left > 0)
            break;
        if (UNLIKELY(l->holds > 0)) {
            if (s->in_scanned > 0)
                s->flags |= SESSION_BATCH; /* the rest of it */
            break;
        }
    }
    if (s->phase == SESSION_BOUND)
        session_emit_local(w, s);
}

/* --- deciding --- */

static void unknown_type(struct worker *w, struct session *s, uint8_t type)
{
    char text[64];

    if (session_speaks_tls(s, type)) {
        session_close(w, s, "TLS migration not available; closing fd");
        return;
    }
    snprintf(text, sizeof text, "invalid frontend message type %u", type);
    session_fatal(w, s, "08P01", text, false);
}

/* A message of phase IDLE that needs no backend. True: it was dealt with. */
static bool answer_idle(struct worker *w, struct session *s)
{
    struct frame f;

    frame_peek(&f, session_input(s), session_input_len(s), FRAME_LIMIT);
    /* Nothing is owed, so there is nothing to flush either. */
    if (f.body != NULL && (is_copy(f.type) || f.type == 'H')) {
        s->flags &= (uint16_t)~SESSION_BATCH;
        session_discard(w, s, &f);
        return true;
    }
    if (f.body != NULL && session_answer_locally(w, s, &f)) {
        s->flags &= (uint16_t)~SESSION_BATCH;
        return true;
    }
    return false;
}

bool session_must_pause(const struct session *s)
{
    struct ledger *l = &s->backend->ledger;

    if (UNLIKELY(s->sync_alone))
        return true;
    if (ledger_empty(l))
        return false;
    if (l->holds > 0)
        return !session_copy_takes(s);
    if (s->flags & SESSION_COPY_IN)
        return false;
    if (ledger_count(l) >= LEDGER_HIGH || s->backend->replaying)
        return true;
    /* Other pauses end by themselves only if the server will answer all of it. */
    if (!ledger_ends_ready(l))
        return false;
    /* A client that pipelines without end gives way to others now and then. And whether a statement
     * is there must be known before another batch counts on it. */
    return (s->mode == POOL_MODE_TRANSACTION && s->lease_batches >= BATCHES_PER_LEASE) ||
           l->unsure > 0;
}

/* The pooler's own answers to a Query, while a backend is held. False: it is for the server. */
static bool answer_bound(struct worker *w, struct session *s)
{
    struct frame f;

    /* What the server would skip, or take as part of a COPY, is none of the pooler's. */
    if ((s->flags & (SESSION_REMAP | SESSION_COPY_IN | SESSION_SKIP_TO_SYNC)) != SESSION_REMAP ||
        session_input(s)[0] != 'Q')
        return false;
    frame_peek(&f, session_input(s), session_input_len(s), FRAME_LIMIT);
    if (f.body == NULL)
        return false;
    switch (session_deallocate(w, s, &f)) {
    case DEALLOCATED_NOT: return false;
    case DEALLOCATED: s->flags &= (uint16_t)~SESSION_BATCH; return true;
    case DEALLOCATED_LATER: session_ask_for_replies(w, s->backend); return true;
    }
    return false;
}

/* Nobody can go on from there. What came before it has replies on their way, which come first. */
static void end_at(struct worker *w, struct session *s, enum scan found, uint8_t type)
{
    if (s->phase == SESSION_BOUND && !ledger_empty(&s->backend->ledger) &&
        (s->flags & SESSION_COPY_IN) == 0) {
        session_ask_for_replies(w, s->backend);
        return;
    }
    if (found == SCAN_BROKEN)
        session_fatal(w, s, "08P01", "invalid message length", false);
    else if (found == SCAN_UNKNOWN)
        unknown_type(w, s, type);
    else
        session_out_of_memory(w, s);
}

/* Is there a batch to deal with? If not, what there is has been seen to. */
static bool batch_is_there(struct worker *w, struct session *s)
{
    uint8_t type = 0;
    enum scan found = scan_batch(s, &type);

    switch (found) {
    case SCAN_READY: return true;
    case SCAN_MORE:
        /* No more of it is read before some of that is answered which was sent already. */
        if (s->phase == SESSION_BOUND && session_input_len(s) >= BATCH_HIGH &&
            session_must_pause(s))
            session_ask_for_replies(w, s->backend);
        return false;
    case SCAN_TERMINATE:
        s->terminated = true;
        session_close(w, s, NULL);
        return false;
    case SCAN_BROKEN:
    case SCAN_UNKNOWN:
    case SCAN_TOO_LARGE: end_at(w, s, found, type); return false;
    }
    return false;
}

/* These four: false if there is nothing more to be done for now. */
static bool go_on_amid(struct worker *w, struct session *s)
{
    if (!pass_rest(w, s))
        return false;
    if (UNLIKELY(s->copy_due))
        session_copy_passed(w, s);
    return true;
}

static bool begin_idle(struct worker *w, struct session *s)
{
    if (UNLIKELY(s->flags & SESSION_DRAIN) && session_drained(w, s))
        return false;
    if (!answer_idle(w, s))
        session_checkout(w, s);
    return true;
}

static bool go_on_bound(struct worker *w, struct session *s)
{
    if (session_must_pause(s)) {
        if (!ledger_ends_ready(&s->backend->ledger))
            session_ask_for_replies(w, s->backend);
        return false;
    }
    if (answer_bound(w, s))
        return ledger_empty(&s->backend->ledger);
    forward_batch(w, s);
    return true;
}

static bool go_on(struct worker *w, struct session *s)
{
    if (session_answers_wait(s))
        return false;
    if (s->body_left > 0)
        return go_on_amid(w, s);
    if (s->skip_to_sync)
        return session_skip(w, s);
    if (!batch_is_there(w, s))
        return false;
    return s->phase == SESSION_IDLE ? begin_idle(w, s) : go_on_bound(w, s);
}

void session_on_client_input(struct worker *w, struct session *s)
{
    while (s->in != NULL && (s->phase == SESSION_IDLE || s->phase == SESSION_BOUND) &&
           s->client == CLIENT_OPEN && (s->flags & SESSION_CLIENT_PAUSED) == 0) {
        if (!go_on(w, s))
            return;
    }
    /* Nothing came of it that the server answers. */
    if (s->in == NULL && s->phase == SESSION_BOUND && session_may_release(s))
        session_release(w, s);
}
