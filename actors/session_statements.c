/* Prepared statements of transaction mode: the client's names stand for shared statements, which go
 * under the pooler's names, so that any backend can serve them. A backend that lacks one is sent
 * the Parse first, in the same stream; one that has it already is not, and the pooler answers. */
#define LOG_MODULE "pg_doorman::server::prepared_statement_cache"
#include "actors/session.h"

#include "proto/deallocate.h"
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>

/* Never prepared by anyone: what is asked of a statement that the client does not have. */
static const char nobody[] = "DOORMAN_missing";
/* What PostgreSQL refuses to parse: what a Parse becomes that the pooler refuses. */
static const uint8_t refused_tail[] = "refused\0\0";
/* What a DEALLOCATE of a client's name becomes, and what it frees. */
static const char freed_name[] = SESSION_FREED_NAME;
static const uint8_t freeing_tail[] = "DEALLOCATE \"" SESSION_FREED_NAME "\"\0\0";

static void put_header(struct worker *w, struct session *s, uint8_t type, uint32_t len)
{
    uint8_t header[FRAME_HEADER] = {type};

    store_be32(header + 1, len);
    conn_put_copy(w, &s->backend->conn, header, sizeof header);
}

static void count_sent(struct worker *w, struct session *s, uint64_t len)
{
    s->backend->bytes_sent += len;
    COUNT(counters_of(w, s->shared)->bytes_sent, len);
}

static void malformed(struct worker *w, struct session *s)
{
    session_fatal(w, s, "08P01", "invalid message format", false);
}

/* --- what goes to the server --- */

static void send_parse(struct worker *w, struct session *s, struct bytes name, struct bytes tail)
{
    static const uint8_t nul = 0;

    put_header(w, s, 'P', (uint32_t)(4 + name.len + 1 + tail.len));
    if (name.len > 0)
        conn_put_copy(w, &s->backend->conn, name.at, name.len);
    conn_put_copy(w, &s->backend->conn, &nul, 1);
    conn_put_copy(w, &s->backend->conn, tail.at, tail.len);
    count_sent(w, s, FRAME_HEADER + name.len + 1 + tail.len);
}

static void send_close(struct worker *w, struct session *s, const char *name)
{
    size_t len = strlen(name) + 1;

    put_header(w, s, 'C', (uint32_t)(4 + 1 + len));
    conn_put_copy(w, &s->backend->conn, "S", 1);
    conn_put_copy(w, &s->backend->conn, name, len);
    count_sent(w, s, FRAME_HEADER + 1 + len);
}

static struct bytes name_of(const struct statement *statement)
{
    return (struct bytes){(const uint8_t *)statement->name, statement->name_len};
}

static struct bytes tail_of(const struct statement *statement)
{
    return (struct bytes){statement->text->tail, statement->text->tail_len};
}

/* Closed, answer swallowed; planned as gone. */
static void close_on_backend(struct worker *w, struct session *s, struct statement *statement)
{
    struct backend *b = s->backend;

    ledger_push(&b->ledger, ASK_CLOSE, FOR_POOLER);
    ledger_own(&b->ledger, statement);
    send_close(w, s, statement->name);
    log_trace(SESSION_LOG(s) "closing %s on pid=%d", SESSION_ID(s), statement->name, b->pid);
    statement_set_remove(b->statements, statement);
}

/* Planned as there. */
static void add_to_backend(struct session *s, struct statement *statement)
{
    struct backend *b = s->backend;

    statement_set_add(b->statements, statement);
    *statement_set_stamp(b->statements) = atomic_load_explicit(&s->shared->ddl_epoch,
                                                               memory_order_relaxed);
}

/* Promotes. */
static bool backend_has(struct backend *b, struct statement *statement)
{
    bool there = statement_set_has(b->statements, statement);

    b->prepared_hits += there;
    b->prepared_misses += !there;
    return there;
}

/* The statement's Parse, ahead of what needs it; its answer is swallowed. */
static void provide(struct worker *w, struct session *s, struct statement *statement)
{
    struct backend *b = s->backend;

    add_to_backend(s, statement);
    ledger_push(&b->ledger, ASK_PARSE, FOR_POOLER);
    ledger_own(&b->ledger, statement);
    send_parse(w, s, name_of(statement), tail_of(statement));
}

/* --- Parse --- */

/* Beyond a limit: in its place goes one that fails, so that all that follows from an error is
 * PostgreSQL's doing. */
static void refuse_parse(struct worker *w, struct session *s, const struct frame *f,
                         const char *why)
{
    struct ledger_entry *entry = ledger_push(&s->backend->ledger, ASK_PARSE, FOR_MISSING);

    entry->missing = strdup(why);
    entry->owns |= OWNS_TEXT;
    atomic_fetch_add_explicit(&statement_events.refused, 1, memory_order_relaxed);
    log_warn(SESSION_LOG(s) "Parse refused: %s", SESSION_ID(s), why);
    send_parse(w, s, bytes_of(""), (struct bytes){refused_tail, sizeof refused_tail});
    session_consume(w, s, FRAME_HEADER + f->body_len);
}

/* The pooler answers; no server sees it. */
static void skip_parse(struct worker *w, struct session *s, const struct frame *f,
                       struct statement *statement)
{
    struct backend *b = s->backend;

    b->skipped = statement;
    atomic_fetch_add_explicit(&statement->hits, 1, memory_order_relaxed);
    ledger_push(&b->ledger, ASK_PARSE, FROM_POOLER);
    session_consume(w, s, FRAME_HEADER + f->body_len);
}

/* In a transaction that has failed, PostgreSQL answers a Parse by what it is of. The unnamed
 * statement serves to ask, and is closed before the Sync. */
static void ask_about_parse(struct worker *w, struct session *s, const struct frame *f,
                            uint32_t skip)
{
    struct backend *b = s->backend;

    session_visible(s, ledger_push(&b->ledger, ASK_PARSE, FOR_CLIENT));
    b->unnamed_used = true;
    b->unnamed_owner = 0;
    put_header(w, s, 'P', 4 + 1 + (FRAME_HEADER + f->body_len - skip));
    conn_put_copy(w, &b->conn, "", 1);
    count_sent(w, s, FRAME_HEADER + 1);
    session_pass(w, s, f, skip);
}

static void forward_parse(struct worker *w, struct session *s, const struct frame *f,
                          struct statement *statement, uint32_t skip)
{
    struct backend *b = s->backend;

    atomic_fetch_add_explicit(&statement->misses, 1, memory_order_relaxed);
    add_to_backend(s, statement);
    session_visible(s, ledger_push(&b->ledger, ASK_PARSE, FOR_CLIENT));
    ledger_own(&b->ledger, statement);
    put_header(w, s, 'P', 4 + statement->name_len + 1 + statement->text->tail_len);
    conn_put_copy(w, &b->conn, statement->name, statement->name_len + 1);
    count_sent(w, s, FRAME_HEADER + statement->name_len + 1);
    session_pass(w, s, f, skip);
}

void session_forward_parse(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;
    struct cursor c = cursor_of(f->body, f->body_len);
    struct bytes name = cursor_string(&c);
    const uint8_t *tail = c.at;
    struct bytes query = cursor_string(&c);
    uint16_t types = cursor_u16(&c);
    const char *refused = NULL;

    (void)query;
    if (c.bad || cursor_left(&c) != (size_t)types * 4) {
        malformed(w, s);
        return;
    }
    struct bytes text = {tail, (size_t)(f->body + f->body_len - tail)};
    struct statement *statement = session_remember(w, s, name, text, &refused);
    if (statement == NULL) {
        refuse_parse(w, s, f, refused);
        return;
    }
    statement_use(statement, name.len == 0, w->now_us);
    uint32_t skip = FRAME_HEADER + (uint32_t)name.len + 1;
    if (UNLIKELY(statement->traits & TEXT_FREES_NAME) && b->status != 'E') {
        skip_parse(w, s, f, statement); /* what it becomes is decided when it is bound */
    } else if (!backend_has(b, statement)) {
        forward_parse(w, s, f, statement, skip);
    } else if (UNLIKELY(b->status == 'E')) {
        ask_about_parse(w, s, f, skip);
    } else if (UNLIKELY(*statement_set_stamp(b->statements) !=
                        atomic_load_explicit(&s->shared->ddl_epoch, memory_order_relaxed))) {
        /* What it refers to may have changed since. */
        close_on_backend(w, s, statement);
        forward_parse(w, s, f, statement, skip);
    } else {
        skip_parse(w, s, f, statement);
    }
}

/* --- Bind, Describe --- */

/* A DEALLOCATE of the client's own name must not reach the server, where other clients have that
 * statement too. What goes there frees one that is put up for the purpose, and so is answered in
 * the same way. */
static struct statement *freeing_statement(struct session *s)
{
    struct statement_key key = statement_key_of(&s->shared->statements, 0,
                                                (struct bytes){freeing_tail, sizeof freeing_tail});

    key.may_exceed = true;
    return statement_get(&key);
}

void session_put_up_freed(struct worker *w, struct session *s)
{
    struct ledger *l = &s->backend->ledger;

    ledger_push(l, ASK_CLOSE, FOR_POOLER);
    send_close(w, s, freed_name);
    ledger_push(l, ASK_PARSE, FOR_POOLER);
    send_parse(w, s, bytes_of(freed_name), (struct bytes){(const uint8_t *)"\0\0", 3});
}

/* Bound, the client's name goes: now, in the order of its requests. */
static struct statement *free_name(struct worker *w, struct session *s, struct statement *statement,
                                   bool bound)
{
    char name[DEALLOCATE_NAME + 1];
    uint32_t len = 0;

    (void)deallocate_read((struct bytes){statement->text->tail, statement->text->query_len}, name,
                          &len);
    struct bytes freed = {(const uint8_t *)name, len};
    /* Unknown in a transaction: an error, as always. Or it is SQL's own, on this backend. */
    if (session_statement(s, freed) == NULL &&
        (s->backend->status != 'I' || (s->backend->dirt & SCAN_PREPARE)))
        return statement;
    struct statement *freeing = freeing_statement(s);
    if (freeing == NULL)
        return statement;
    if (bound) {
        session_forget(s, freed);
        session_put_up_freed(w, s);
    }
    if (!statement_set_has(s->backend->statements, freeing))
        provide(w, s, freeing);
    statement_unref(freeing); /* the backend's set has its own reference */
    return freeing;
}

/* A statement that the backend has: the client's, or one that stands for it. */
static struct statement *at_hand(struct worker *w, struct session *s, struct bytes name,
                                 struct statement *statement, bool bound)
{
    struct backend *b = s->backend;

    if (UNLIKELY(statement->traits & TEXT_FREES_NAME)) {
        struct statement *freeing = free_name(w, s, statement, bound);

        if (freeing != statement)
            return freeing;
    }
    if (LIKELY(backend_has(b, statement)))
        return statement;
    /* Parsed now, it would be read under this backend's settings: it goes by a name for those. */
    if (statement->digest != b->digest[(statement->traits & TEXT_BEYOND_ASCII) != 0]) {
        struct statement *variant = session_variant(s, name, statement);

        if (variant != NULL) {
            if (!statement_set_has(b->statements, variant))
                provide(w, s, variant);
            statement_unref(variant);
            return variant;
        }
    }
    provide(w, s, statement);
    return statement;
}

/* What SQL prepared in this lease may be bound by its own name; no other lease can have left it. */
static bool is_sqls_own(const struct session *s, struct bytes name)
{
    return (s->backend->dirt & SCAN_PREPARE) && name.len > 0 &&
           (name.len < 8 || memcmp(name.at, "DOORMAN_", 8) != 0);
}

/* The name to send, and the entry that awaits the reply. */
static struct bytes server_name(struct worker *w, struct session *s, enum ledger_kind kind,
                                struct bytes name, bool named_portal)
{
    struct ledger *l = &s->backend->ledger;
    struct statement *statement = s->flags & SESSION_REMAP ? session_statement(s, name) : NULL;

    if (UNLIKELY(statement == NULL)) {
        bool own = is_sqls_own(s, name);
        struct ledger_entry *entry = ledger_push(l, kind, own ? FOR_CLIENT : FOR_MISSING);

        session_visible(s, entry);
        if (own)
            return name;
        entry->missing = strndup((const char *)name.at, name.len);
        entry->owns |= OWNS_TEXT;
        return bytes_of(nobody);
    }
    if (UNLIKELY(atomic_load_explicit(&statement->retired, memory_order_relaxed)))
        statement = session_renew(w, s, name, statement);
    statement_use(statement, name.len == 0, w->now_us);
    statement = at_hand(w, s, name, statement, kind == ASK_BIND);
    struct ledger_entry *entry = ledger_push(l, kind, FOR_CLIENT);
    entry->statement = statement;
    session_replayable(s, entry);
    if (kind == ASK_BIND) {
        session_state_bind(w, s, statement, named_portal);
        s->backend->traits |= statement->traits;
        s->backend->may_copy |= (statement->traits & TEXT_MAY_COPY) != 0;
    }
    return name_of(statement);
}

void session_forward_bind(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;
    struct cursor c = cursor_of(f->body, f->have);
    struct bytes portal = cursor_string(&c);
    struct bytes name = cursor_string(&c);

    if (c.bad) {
        malformed(w, s);
        return;
    }
    struct bytes sent = server_name(w, s, ASK_BIND, name, portal.len > 0);
    uint32_t skip = FRAME_HEADER + (uint32_t)(portal.len + 1 + name.len + 1);
    put_header(w, s, 'B', (uint32_t)(4 + f->body_len - name.len + sent.len));
    conn_put_copy(w, &b->conn, portal.at, portal.len + 1);
    conn_put_copy(w, &b->conn, sent.at, sent.len + 1);
    count_sent(w, s, FRAME_HEADER + portal.len + 1 + sent.len + 1);
    session_pass(w, s, f, skip);
}

void session_forward_describe(struct worker *w, struct session *s, const struct frame *f)
{
    struct cursor c = cursor_of(f->body + 1, f->body_len - 1);
    struct bytes name = cursor_string(&c);

    if (c.bad || cursor_left(&c) != 0) {
        malformed(w, s);
        return;
    }
    struct bytes sent = server_name(w, s, ASK_DESCRIBE_STATEMENT, name, false);
    put_header(w, s, 'D', (uint32_t)(4 + 1 + sent.len + 1));
    conn_put_copy(w, &s->backend->conn, "S", 1);
    conn_put_copy(w, &s->backend->conn, sent.at, sent.len + 1);
    count_sent(w, s, FRAME_HEADER + 1 + sent.len + 1);
    session_consume(w, s, FRAME_HEADER + f->body_len);
}

/* --- Close --- */

void session_forward_close(struct worker *w, struct session *s, const struct frame *f)
{
    struct cursor c = cursor_of(f->body + 1, f->body_len - 1);
    struct bytes name = cursor_string(&c);
    struct ledger *l = &s->backend->ledger;

    if (c.bad || cursor_left(&c) != 0) {
        malformed(w, s);
        return;
    }
    if (session_statement(s, name) == NULL && is_sqls_own(s, name)) {
        session_visible(s, ledger_push(l, ASK_CLOSE, FOR_CLIENT));
        session_pass(w, s, f, 0);
        return;
    }
    /* The backend keeps it: other clients share it. The name is the client's alone. */
    ledger_push(l, ASK_CLOSE, FROM_POOLER);
    session_hide(s, name, l);
    session_consume(w, s, FRAME_HEADER + f->body_len);
}

void session_close_excess(struct worker *w, struct session *s)
{
    struct statement *statement;

    while ((statement = statement_set_excess(s->backend->statements)) != NULL)
        close_on_backend(w, s, statement);
}

/* Texts take much memory: the backend keeps what it used last. A few at a time, as it is one client
 * that waits for all of them. */
static void give_up_oldest(struct worker *w, struct session *s)
{
    enum { AT_ONCE = 64 };
    struct statement_set *set = s->backend->statements;
    uint64_t allowance = statement_set_allowance();
    uint32_t stamp;

    for (int i = 0; i < AT_ONCE; i++) {
        if (statement_set_text_bytes(set) <= allowance || statement_set_count(set) == 1)
            return;
        close_on_backend(w, s, statement_set_oldest(set, &stamp));
    }
}

void session_before_sync(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (b->unnamed_used) {
        b->unnamed_used = false;
        ledger_push(&b->ledger, ASK_CLOSE, FOR_POOLER);
        send_close(w, s, "");
    }
    session_close_excess(w, s);
    if (UNLIKELY(statement_pressed()))
        give_up_oldest(w, s);
}

const char *session_missing_text(const struct ledger_entry *entry, const char **sqlstate)
{
    static _Thread_local char text[160];

    *sqlstate = "26000";
    if (entry->kind == ASK_PARSE) {
        *sqlstate = "53200";
        return entry->missing;
    }
    if (entry->missing == NULL || entry->missing[0] == '\0')
        return "unnamed prepared statement does not exist";
    snprintf(text, sizeof text, "prepared statement \"%s\" does not exist", entry->missing);
    return text;
}

/* --- before the batch is complete --- */

/* Was this name parsed by a message of the input, up to `end`? */
static bool parsed_in_input(const uint8_t *at, const uint8_t *end, struct bytes name)
{
    struct frame f;

    while (at < end && frame_peek(&f, at, (size_t)(end - at), FRAME_LIMIT) == FRAME_WHOLE) {
        struct cursor c = cursor_of(f.body, f.body_len);

        if (f.type == 'P' && bytes_equal(cursor_string(&c), name))
            return true;
        at += FRAME_HEADER + f.body_len;
    }
    return false;
}

/* A client may wait for the error of a name that it does not have, without a Sync: PostgreSQL sends
 * errors at once. So a batch that will fail is begun before it is complete. */
bool session_will_fail(const struct session *s, uint32_t from, uint32_t to)
{
    enum { LOOKUPS = 32 };
    const uint8_t *input = session_input(s);
    const uint8_t *at = input + from;
    uint32_t lookups = 0;
    struct frame f;

    while (at < input + to &&
           frame_peek(&f, at, (size_t)(input + to - at), FRAME_LIMIT) == FRAME_WHOLE) {
        struct cursor c = cursor_of(f.body, f.body_len);
        bool names = f.type == 'B' || (f.type == 'D' && cursor_u8(&c) == 'S');

        if (f.type == 'B')
            cursor_string(&c);
        struct bytes name = names ? cursor_string(&c) : (struct bytes){0};
        if (names && !c.bad && session_statement(s, name) == NULL &&
            (++lookups > LOOKUPS || !parsed_in_input(input, at, name)))
            return true;
        at += FRAME_HEADER + f.body_len;
    }
    return false;
}
