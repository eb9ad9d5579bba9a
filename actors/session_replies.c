/* What the server's messages mean: the ledger says what each of them answers. */
#define LOG_MODULE "pg_doorman::server::protocol_io"
#include "actors/session_pass.h"
#include "runtime/log.h"

/* --- consuming the ledger --- */

static bool head_is(struct backend *b, enum ledger_kind kind)
{
    struct ledger_entry *head = ledger_head(&b->ledger);

    return head != NULL && head->kind == kind;
}

/* The reply to the request at the head: pops it and tells whose it is. */
static enum verdict answered(struct backend *b, enum ledger_kind kind)
{
    struct ledger_entry *head = ledger_head(&b->ledger);

    if (head == NULL || head->kind != kind)
        return FORWARD;
    if (head->marks & ENTRY_FIRST)
        session_replay_done(worker_self(), b);
    enum verdict verdict = head->whose == FOR_POOLER ? SWALLOW : FORWARD;
    session_state_answered(b, head);
    ledger_pop(&b->ledger);
    return verdict;
}

/* What was planned and will not happen. */
static void undo(struct session *s, struct backend *b, struct ledger_entry *entry)
{
    /* A stranger's may still be there. One of its own would be, too, and be left in peace. */
    if ((entry->marks & ENTRY_UNNAMED) && (entry->owns & OWNS_UNSURE))
        b->unnamed_owner = 0;
    if (LIKELY((entry->owns & OWNS_STATEMENT) == 0) || b->statements == NULL)
        return;
    if (entry->kind == ASK_CLOSE && entry->whose == FROM_POOLER)
        session_settle_name(s, entry, false);
    else if (entry->kind == ASK_PARSE)
        statement_set_remove(b->statements, entry->statement);
    else if (entry->kind == ASK_CLOSE && !statement_set_has(b->statements, entry->statement))
        statement_set_restore(b->statements, entry->statement);
}

/* The requests up to the next that is answered with ReadyForQuery (`sync_only`: with a Sync) were
 * left out by the server. The last plan is undone first: it was made upon the others. */
static void skip(struct session *s, struct backend *b, bool sync_only)
{
    struct ledger *l = &b->ledger;
    uint32_t end = l->head;

    while (end != l->tail) {
        const struct ledger_entry *entry = &l->ring[end & (l->size - 1)];

        if (entry->kind == ASK_SYNC || (!sync_only && ends_ready(entry)))
            break;
        end++;
    }
    for (uint32_t i = end; i != l->head; i--)
        undo(s, b, &l->ring[(i - 1) & (l->size - 1)]);
    while (l->head != end)
        ledger_pop(l);
}

/* An error in the extended protocol: the server skips to the next Sync. */
static void skip_to_sync(struct session *s, struct backend *b)
{
    skip(s, b, true);
    if (ledger_empty(&b->ledger))
        s->flags |= SESSION_SKIP_TO_SYNC;
}

static void note_missing(const struct session *s, const struct ledger_entry *entry)
{
    enum { TELL_US = 10000000 };
    static _Atomic uint64_t told_us;
    uint64_t now_us = clock_us();
    uint64_t before_us = atomic_load_explicit(&told_us, memory_order_relaxed);

    if (entry->missing[0] != '\0') {
        log_warn(SESSION_LOG(s) "prepared statement \"%.63s\" does not exist", SESSION_ID(s),
                 entry->missing);
        return;
    }
    atomic_fetch_add_explicit(&statement_events.synthetic_misses, 1, memory_order_relaxed);
    /* A driver that counts on it does so with each of its queries. */
    if ((before_us == 0 || now_us - before_us > TELL_US) &&
        atomic_compare_exchange_strong(&told_us, &before_us, now_us))
        log_warn(SESSION_LOG(s) "unnamed prepared statement does not exist", SESSION_ID(s));
    else
        log_debug(SESSION_LOG(s) "unnamed prepared statement does not exist", SESSION_ID(s));
}

/* The server's own text names a statement that the client never heard of. */
static void replace_missing(struct pass *p, const struct ledger_entry *entry)
{
    struct writer out;
    const char *sqlstate;
    const char *text = session_missing_text(entry, &sqlstate);

    session_put_run(p, p->at);
    if (entry->kind != ASK_PARSE)
        note_missing(p->s, entry);
    writer_init(&out);
    write_error(&out, "ERROR", sqlstate, text);
    if (session_client_listens(p->s))
        conn_put_copy(p->w, &p->s->conn, out.at, out.len);
    writer_free(&out);
}

bool session_is_fatal(const struct error_fields *fields)
{
    return fields->severity_fixed.len > 0 &&
           (fields->severity_fixed.at[0] == 'F' ||
            bytes_equal(fields->severity_fixed, bytes_of("PANIC")));
}

/* What a server says of itself; its statements may be the worse for it. */
static bool is_internal(const struct error_fields *fields)
{
    return fields->sqlstate.len == 5 && memcmp(fields->sqlstate.at, "XX", 2) == 0;
}

/* To the question whether a COPY goes on, which took the place of the client's message. */
COLD static enum verdict translate(struct pass *p, uint32_t len)
{
    struct rbuf *error = rbuf_take_exact(FRAME_HEADER + len);

    session_put_run(p, p->at);
    memcpy(error->data, p->at, FRAME_HEADER + len);
    session_copy_translate(p->s, error->data + FRAME_HEADER, len);
    if (session_client_listens(p->s))
        conn_put_copy(p->w, &p->s->conn, error->data, FRAME_HEADER + len);
    rbuf_unref(p->w, error);
    return REPLACED;
}

static enum verdict on_error(struct pass *p, const uint8_t *body, uint32_t len)
{
    struct session *s = p->s;
    struct backend *b = p->b;
    struct ledger_entry *head = ledger_head(&b->ledger);
    struct error_fields fields = {0};
    enum verdict verdict = FORWARD;
    /* Of a very long one only the beginning is here: severity and SQLSTATE, which come first. */
    if (read_error(body, len, &fields) != 0)
        fields.message = (struct bytes){NULL, 0};
    bool fatal = session_is_fatal(&fields);

    /* The client owes and is owed nothing: the end of this backend is not its concern. */
    if (fatal && session_may_release(s)) {
        s->flags |= SESSION_BAD_BACKEND;
        return SWALLOW;
    }
    if (head != NULL && !fatal && session_heal(p->w, s, head, &fields)) {
        skip_to_sync(s, b);
        return SWALLOW;
    }
    session_replay_done(p->w, b);
    s->skip_parameters = false;
    s->errors++;
    session_capture_end(s, false);
    COUNT(counters_of(p->w, s->shared)->errors, 1);
    if (fatal)
        s->flags |= SESSION_FATAL_SEEN;
    if (s->mode == POOL_MODE_SESSION && b->effective->prepared_cache_size > 0)
        b->dirt |= SCAN_PREPARE;
    session_state_failed(b, head);
    if (UNLIKELY(s->copy_asked) && (s->flags & SESSION_COPY_IN) && !fatal)
        verdict = translate(p, len);
    if (UNLIKELY(s->copy_synced) && !fatal) {
        session_copy_failed(p->w, s);
        head = ledger_head(&b->ledger);
    }
    b->copy_in = false;
    s->flags &= (uint16_t)~SESSION_COPY_IN;
    if (head == NULL || head->kind == ASK_QUERY || head->kind == ASK_FUNCTION) {
        if (head == NULL && b->needs_sync)
            s->flags |= SESSION_SKIP_TO_SYNC;
        return verdict;
    }
    if ((s->flags & SESSION_REMAP) && is_internal(&fields))
        b->dirt |= SCAN_PREPARE;
    if (head->whose == FOR_MISSING && !fatal) {
        replace_missing(p, head);
        verdict = REPLACED;
    }
    if ((s->flags & SESSION_FLUSHED) && s->mode == POOL_MODE_TRANSACTION)
        s->flags |= SESSION_BAD_BACKEND;
    if (head->kind != ASK_SYNC)
        skip_to_sync(s, b);
    return verdict;
}

/* Other than an ordinary one: what it means for statements that clients and backends know. */
COLD static void note_tag(struct pass *p, struct bytes tag)
{
    static const char *const changes[] = {
        "ALTER TABLE", "ALTER TYPE",     "ALTER DOMAIN",    "ALTER VIEW",
        "CREATE VIEW", "ALTER FUNCTION", "CREATE FUNCTION", "ALTER MATERIALIZED VIEW",
    };
    struct ledger_entry *head = ledger_head(&p->b->ledger);

    if ((p->s->flags & SESSION_REMAP) && head != NULL && head->whose == FOR_CLIENT &&
        (bytes_equal(tag, bytes_of("DEALLOCATE ALL")) || bytes_equal(tag, bytes_of("DISCARD ALL"))))
        session_forget_all(p->s);
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        if (!bytes_equal(tag, bytes_of(changes[i])))
            continue;
        /* At once for this transaction; when it has ended, for the others. */
        p->b->schema_changed = true;
        directory_schema_changed(p->b->shared->database);
    }
}

static enum verdict on_complete(struct pass *p, const uint8_t *body, uint32_t len)
{
    struct backend *b = p->b;
    struct cursor c = cursor_of(body, len);
    struct bytes tag = cursor_string(&c);

    session_state_tag(b, ledger_head(&b->ledger), tag);
    if (UNLIKELY(p->s->copy_synced))
        session_copy_done(p->s);
    if (UNLIKELY(tag.len > 6 &&
                 (tag.at[0] == 'A' || tag.at[0] == 'D' || (tag.at[0] == 'C' && tag.at[1] == 'R'))))
        note_tag(p, tag);
    if (head_is(b, ASK_EXECUTE))
        return answered(b, ASK_EXECUTE);
    struct ledger_entry *head = ledger_head(&b->ledger);
    return head != NULL && head->whose == FOR_POOLER ? SWALLOW : FORWARD;
}

static void count_query(struct pass *p)
{
    struct session *s = p->s;
    struct pool_counters *counters = counters_of(p->w, s->shared);
    uint64_t us = elapsed_us(p->w, s->query_us);

    s->queries++;
    p->b->queries++;
    COUNT(counters->queries, 1);
    COUNT(counters->query_us, us);
    time_record(p->w, s->shared, TIME_QUERY, us);
    s->query_us = p->w->now_us;
    if (p->b->status != 'I')
        return;
    s->transactions++;
    p->b->transactions++;
    COUNT(counters->transactions, 1);
    us = elapsed_us(p->w, s->leased_us);
    COUNT(counters->transaction_us, us);
    time_record(p->w, s->shared, TIME_TRANSACTION, us);
    if (s->mode == POOL_MODE_SESSION)
        s->leased_us = p->w->now_us;
}

static enum verdict on_ready(struct pass *p, const uint8_t *body, uint32_t len)
{
    struct session *s = p->s;
    struct backend *b = p->b;
    struct ledger_entry *head;
    enum verdict verdict = FORWARD;

    if (len != 1 || (body[0] != 'I' && body[0] != 'T' && body[0] != 'E')) {
        b->broken = true;
        return FORWARD;
    }
    b->status = (char)body[0];
    b->copy_in = false;
    s->flags &= (uint16_t) ~(SESSION_COPY_IN | SESSION_FLUSHED | SESSION_SKIP_TO_SYNC);
    /* Whatever the server left out of what came before: here both sides are in step again. */
    skip(s, b, false);
    if (UNLIKELY(s->copy_asked)) {
        session_put_run(p, p->at);
        if (session_copy_ready(p->w, s))
            return SWALLOW;
    }
    head = ledger_head(&b->ledger);
    if (head != NULL) {
        verdict = head->whose == FOR_POOLER ? SWALLOW : FORWARD;
        session_state_answered(b, head);
        ledger_pop(&b->ledger);
    }
    session_state_ready(b);
    if (ledger_empty(&b->ledger))
        b->needs_sync = false;
    if (UNLIKELY(b->schema_changed) && b->status == 'I') {
        b->schema_changed = false;
        directory_schema_changed(b->shared->database);
    }
    if (UNLIKELY(b->replaying)) {
        b->replaying = false;
        if (s->phase == SESSION_BOUND && s->client == CLIENT_OPEN)
            session_replay(p->w, s);
        else
            session_replay_done(p->w, b);
        return verdict;
    }
    s->replayed &= verdict != FORWARD;
    /* Ahead of the client's own transaction there is none to count. */
    if (LIKELY(verdict == FORWARD || b->status != 'I'))
        count_query(p);
    return verdict;
}

static enum verdict on_parameter(struct pass *p, const uint8_t *body, uint32_t len)
{
    struct parameter pair;

    if (read_parameter_status(body, len, &pair) != 0) {
        p->b->broken = true;
        return SWALLOW;
    }
    session_parameter_changes(p->b);
    backend_set_parameter(p->b, pair.name, pair.value);
    text_settings_changed(p->b, p->s->wanted, pair.name);
    if (p->b->effective->log_client_parameter_status_changes)
        log_info(SESSION_LOG(p->s) "parameter changed pid=%d: %.*s=%.*s", SESSION_ID(p->s),
                 p->b->pid, (int)pair.name.len, (const char *)pair.name.at, (int)pair.value.len,
                 (const char *)pair.value.at);
    return FORWARD;
}

static enum verdict on_parsed(struct pass *p)
{
    const struct ledger_entry *head = ledger_head(&p->b->ledger);

    if (head != NULL && (head->marks & ENTRY_UNNAMED))
        p->b->unnamed_owner = actor_id_of(&p->s->actor);
    return answered(p->b, ASK_PARSE);
}

/* The first answer to a Describe of a statement. */
static enum verdict on_parameters(struct pass *p)
{
    struct ledger_entry *head = ledger_head(&p->b->ledger);

    if (head == NULL || head->kind != ASK_DESCRIBE_STATEMENT)
        return FORWARD;
    head->marks |= ENTRY_DESCRIBED;
    if (LIKELY(!p->s->skip_parameters))
        return FORWARD;
    p->s->skip_parameters = false;
    return SWALLOW;
}

static enum verdict on_empty(struct pass *p)
{
    return head_is(p->b, ASK_EXECUTE) ? answered(p->b, ASK_EXECUTE) : FORWARD;
}

static enum verdict on_closed(struct pass *p)
{
    if (UNLIKELY(p->s->copy_asked) && session_copy_known(p->s))
        return SWALLOW;
    return answered(p->b, ASK_CLOSE);
}

/* NoData or RowDescription ends a Describe; within a Query it belongs to the rows. */
static enum verdict on_description(struct pass *p)
{
    if (head_is(p->b, ASK_DESCRIBE_PORTAL))
        return answered(p->b, ASK_DESCRIBE_PORTAL);
    if (head_is(p->b, ASK_DESCRIBE_STATEMENT))
        return answered(p->b, ASK_DESCRIBE_STATEMENT);
    return FORWARD;
}

enum verdict session_on_reply(struct pass *p, uint8_t type, const uint8_t *body, uint32_t len)
{
    switch (type) {
    case 'Z': return on_ready(p, body, len);
    case 'C': return on_complete(p, body, len);
    case 'E': return on_error(p, body, len);
    case 'S': return on_parameter(p, body, len);
    case '1': return on_parsed(p);
    case '2': return answered(p->b, ASK_BIND);
    case '3': return on_closed(p);
    case 't': return on_parameters(p);
    case 'T':
    case 'n': return on_description(p);
    case 's': return answered(p->b, ASK_EXECUTE);
    case 'I': return on_empty(p);
    case 'G': session_copy_begins(p->w, p->s); return FORWARD;
    default: return FORWARD; /* D d V H N A and what is new */
    }
}
