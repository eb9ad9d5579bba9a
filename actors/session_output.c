/* From the server to the client: found by header, forwarded in whole slices. */
#define LOG_MODULE "pg_doorman::server::protocol_io"
#include "actors/session_pass.h"

#include <stdlib.h>

/* Held back until whole at most; longer ones are passed without being looked at. */
enum { WHOLE_LIMIT = 1 << 20 };

void session_put_run(struct pass *p, const uint8_t *to)
{
    if (UNLIKELY(p->s->capture != NULL) && to > p->run)
        session_capture(p->s, p->run, (size_t)(to - p->run));
    /* The client has its answer when a lease ends: what still comes is about the backend. */
    if (to > p->run && session_client_listens(p->s) && p->s->phase != SESSION_RELEASING)
        conn_put(p->w, &p->s->conn, p->buf, p->run, (uint32_t)(to - p->run));
    p->run = to;
}

/* --- the pooler's own replies --- */

static void put_local(struct worker *w, struct session *s, uint8_t kind)
{
    static const uint8_t parse_complete[] = {'1', 0, 0, 0, 4};
    static const uint8_t close_complete[] = {'3', 0, 0, 0, 4};

    if ((s->flags & SESSION_FATAL_SEEN) != 0) /* that was the last word */
        return;
    if (session_client_listens(s))
        conn_put_copy(w, &s->conn, kind == ASK_PARSE ? parse_complete : close_complete, 5);
}

void session_emit_local(struct worker *w, struct session *s)
{
    struct ledger *l = &s->backend->ledger;
    struct ledger_entry *head;

    while ((head = ledger_head(l)) != NULL && head->whose == FROM_POOLER) {
        put_local(w, s, head->kind);
        if (head->kind == ASK_CLOSE)
            session_settle_name(s, head, true);
        ledger_pop(l);
    }
}

/* --- the stream --- */

static void stash(struct pass *p)
{
    uint32_t len = (uint32_t)(p->end - p->at);

    session_put_run(p, p->at);
    p->b->stash = rbuf_take_exact(len);
    memcpy(p->b->stash->data, p->at, len);
    p->b->stash_len = len;
    p->at = p->run = p->end;
}

/* Behind a message that is over: the pooler's replies whose turn it is. */
static void emit_local(struct pass *p)
{
    struct ledger_entry *head = ledger_head(&p->b->ledger);

    if (head == NULL || head->whose != FROM_POOLER)
        return;
    session_put_run(p, p->at);
    session_emit_local(p->w, p->s);
}

/* --- large messages --- */

/* Every message that is not whole is passed in pieces; those above the limit are counted. */
static void stream_begins(struct backend *b, const struct frame *f)
{
    uint64_t limit = b->config->general.message_size_to_be_stream;

    if (limit == 0 || f->body_len + 4 <= limit)
        return;
    if (f->type == 'D')
        b->streaming = STREAM_DATA_ROW + 1;
    else if (f->type == 'd')
        b->streaming = STREAM_COPY_DATA + 1;
    else if (f->type == 'V')
        b->streaming = STREAM_FUNCTION_RESULT + 1;
    b->stream_len = (uint32_t)(FRAME_HEADER + f->body_len);
}

void session_stream_ends(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct pool_counters *counters = counters_of(w, s->shared);
    unsigned kind = b->streaming - 1u;

    b->streaming = 0;
    if (b->body_left == 0)
        COUNT(counters->streams[kind], 1);
    else
        COUNT(counters->streams_broken[kind], 1);
    COUNT(counters->stream_bytes[kind], b->stream_len - b->body_left);
}

/* The rest of a message whose header has passed. */
static void pass_body(struct pass *p)
{
    struct backend *b = p->b;
    uint64_t len = MIN(b->body_left, (uint64_t)(p->end - p->at));

    if (b->body_swallowed)
        session_put_run(p, p->at);
    p->at += len;
    b->body_left -= len;
    if (b->body_swallowed)
        p->run = p->at;
    if (b->body_left > 0)
        return;
    if (b->streaming != 0)
        session_stream_ends(p->w, p->s);
    emit_local(p);
}

static bool needs_whole(uint8_t type)
{
    return type == 'Z' || type == 'C' || type == 'E' || type == 'S';
}

static bool one_message(struct pass *p)
{
    struct backend *b = p->b;
    size_t left = (size_t)(p->end - p->at);
    struct frame f;

    switch (frame_peek(&f, p->at, left, INT32_MAX)) {
    case FRAME_BROKEN: b->broken = true; return false;
    case FRAME_PARTIAL:
        if (f.body == NULL || (needs_whole(f.type) && f.body_len <= WHOLE_LIMIT)) {
            stash(p);
            return true;
        }
        /* An error may have any length; of the others that must be whole, none has such a one. */
        if (needs_whole(f.type) && f.type != 'E') {
            b->broken = true;
            return false;
        }
        stream_begins(b, &f);
        break;
    case FRAME_WHOLE: break;
    }
    /* Rows are the most of all messages, and answer nothing. */
    enum verdict verdict = f.type == 'D' ? FORWARD : session_on_reply(p, f.type, f.body, f.have);
    if (verdict != FORWARD)
        session_put_run(p, p->at);
    p->at += FRAME_HEADER + f.have;
    b->body_left = f.body_len - f.have;
    b->body_swallowed = verdict != FORWARD;
    if (verdict != FORWARD)
        p->run = p->at;
    if (b->body_left == 0)
        emit_local(p);
    return !b->broken;
}

/* The replies to the pooler's own words about settings: nothing of them is for the client but what
 * other sessions say to it. False: the next message is not whole, or not about that any more. */
static bool sync_message(struct pass *p)
{
    struct session *s = p->s;
    struct backend *b = p->b;
    struct error_fields fields;
    struct parameter pair;
    struct frame f;

    switch (frame_peek(&f, p->at, (size_t)(p->end - p->at), INT32_MAX)) {
    case FRAME_BROKEN:
        b->broken = true;
        p->at = p->run = p->end;
        return false;
    case FRAME_PARTIAL: stash(p); return false;
    case FRAME_WHOLE: break;
    }
    p->at += FRAME_HEADER + f.body_len;
    if (f.type == 'A')
        session_put_run(p, p->at);
    p->run = p->at;
    if (f.type == 'S' && read_parameter_status(f.body, f.body_len, &pair) == 0)
        backend_set_parameter(b, pair.name, pair.value);
    if (f.type == 'E' && read_error(f.body, f.body_len, &fields) == 0) {
        session_sync_refused(p->w, s, fields.sqlstate, fields.message);
        b->broken |= session_is_fatal(&fields);
    }
    if (f.type != 'Z')
        return true;
    b->status = f.body_len == 1 ? (char)f.body[0] : '?';
    b->broken |= b->status != 'I';
    ledger_pop(&b->ledger);
    if (ledger_empty(&b->ledger))
        b->needs_sync = false;
    session_sync_ended(p->w, s);
    if (!s->sync_failed)
        emit_local(p); /* of requests that were sent behind it */
    return false;
}

/* What was held back and what came, in one piece. */
static struct rbuf *join_stash(struct worker *w, struct backend *b, const struct rbuf *buf,
                               uint32_t *len)
{
    struct rbuf *joined = rbuf_take_bytes(w, (size_t)b->stash_len + *len);

    memcpy(joined->data, b->stash->data, b->stash_len);
    memcpy(joined->data + b->stash_len, buf->data, *len);
    *len += b->stash_len;
    rbuf_unref(w, b->stash);
    b->stash = NULL;
    b->stash_len = 0;
    return joined;
}

static void after_bytes(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (b->broken) {
        session_backend_lost(w, s);
        return;
    }
    if (s->phase == SESSION_DRAINING) {
        session_drain_step(w, s);
        return;
    }
    if (s->phase != SESSION_BOUND)
        return;
    if (UNLIKELY(s->sync_failed)) {
        s->sync_failed = s->sync_alone = false;
        session_told(w, s, "settings refused");
        return;
    }
    if (UNLIKELY(s->sync_alone && !s->syncing)) {
        s->sync_alone = false;
        session_on_client_input(w, s);
        return;
    }
    if (session_may_release(s)) {
        session_release(w, s);
        return;
    }
    if (UNLIKELY(s->flags & SESSION_DRAIN) && session_rests(s) && session_drained(w, s))
        return; /* in session mode there is no release at which to go */
    if (UNLIKELY(b->all_reset))
        session_parameters_restored(w, s);
    if (s->in != NULL)
        session_on_client_input(w, s); /* what had to wait for these replies */
}

void session_on_server_bytes(struct worker *w, struct session *s, struct rbuf *buf, uint32_t len)
{
    struct backend *b = s->backend;
    struct rbuf *joined = b->stash == NULL ? NULL : join_stash(w, b, buf, &len);

    if (joined != NULL)
        buf = joined;
    struct pass p = {w, s, b, buf, buf->data, buf->data, buf->data + len};
    if (s->phase == SESSION_DRAINING)
        s->drained_bytes += len;
    while (UNLIKELY(s->syncing) && p.at < p.end && sync_message(&p))
        ;
    while (p.at < p.end) {
        if (b->body_left > 0)
            pass_body(&p);
        else if (!one_message(&p))
            break;
    }
    session_put_run(&p, p.at);
    if (UNLIKELY(s->capture != NULL) && ledger_empty(&b->ledger) && b->stash == NULL)
        session_capture_end(s, b->status == 'I');
    if (joined != NULL)
        rbuf_unref(w, joined);
    after_bytes(w, s);
    if (UNLIKELY(s->cancel_due))
        session_cancel_due(w, s);
}
