/* Prepared statements of transaction mode: the client's names stand for shared statements, which go
 * under the pooler's names, so that any backend can serve them. A backend that lacks one is sent
 * the Parse first, in the same stream; one that has it already is not, and the pooler answers. */
#define LOG_MODULE "pg_doorman::server::prepared_statement_cache"
#include "actors/session.h"

#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>

/* Never prepared by anyone: what is asked of a statement that the client does not have. */
static const char nobody[] = "DOORMAN_missing";

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

static struct statement *find(const struct session *s, struct bytes name)
{
    return name.len == 0 ? s->unnamed : statement_map_get(&s->statements, name);
}

static struct statement *remember(struct session *s, struct bytes name, const uint8_t *tail,
                                  uint32_t len)
{
    struct statement *known = find(s, name);

    /* A driver that sends the same text again and again needs no look-up. */
    if (known != NULL && known->tail_len == len && memcmp(known->tail, tail, len) == 0)
        return known;
    struct statement *statement = statement_intern(tail, len);
    INVARIANT(statement != NULL);
    if (name.len == 0) {
        if (s->unnamed != NULL)
            statement_unref(s->unnamed);
        s->unnamed = statement;
        return statement;
    }
    statement_map_put(&s->statements, name, statement);
    statement_unref(statement); /* the map's reference stays */
    return statement;
}

static void malformed(struct worker *w, struct session *s)
{
    session_fatal(w, s, "08P01", "invalid message format", false);
}

void session_forward_parse(struct worker *w, struct session *s, const struct frame *f)
{
    struct backend *b = s->backend;
    struct cursor c = cursor_of(f->body, f->body_len);
    struct bytes name = cursor_string(&c);
    const uint8_t *tail = c.at;
    struct bytes query = cursor_string(&c);
    uint16_t types = cursor_u16(&c);

    (void)query;
    if (c.bad || cursor_left(&c) != (size_t)types * 4) {
        malformed(w, s);
        return;
    }
    uint32_t tail_len = (uint32_t)(f->body + f->body_len - tail);
    struct statement *statement = remember(s, name, tail, tail_len);
    atomic_fetch_add_explicit(&statement->used, 1, memory_order_relaxed);
    uint32_t skip = FRAME_HEADER + (uint32_t)name.len + 1;
    if (statement_set_has(b->statements, statement)) {
        b->prepared_hits++;
        ledger_push(&b->ledger, ASK_PARSE, FROM_POOLER, NULL);
        session_consume(w, s, FRAME_HEADER + f->body_len);
        return;
    }
    b->prepared_misses++;
    statement_set_add(b->statements, statement);
    ledger_push(&b->ledger, ASK_PARSE, FOR_CLIENT, statement);
    put_header(w, s, 'P', 4 + statement->name_len + 1 + tail_len);
    conn_put_copy(w, &b->conn, statement->name, statement->name_len + 1);
    count_sent(w, s, FRAME_HEADER + statement->name_len + 1);
    session_pass(w, s, f, skip);
}

/* The statement's Parse, ahead of what needs it; its answer is swallowed. */
static void provide(struct worker *w, struct session *s, struct statement *statement)
{
    struct backend *b = s->backend;

    if (statement_set_has(b->statements, statement)) {
        b->prepared_hits++;
        return;
    }
    b->prepared_misses++;
    statement_set_add(b->statements, statement);
    ledger_push(&b->ledger, ASK_PARSE, FOR_POOLER, statement);
    put_header(w, s, 'P', 4 + statement->name_len + 1 + statement->tail_len);
    conn_put_copy(w, &b->conn, statement->name, statement->name_len + 1);
    conn_put_copy(w, &b->conn, statement->tail, statement->tail_len);
    count_sent(w, s, FRAME_HEADER + statement->name_len + 1 + statement->tail_len);
}

/* The name to send, and the entry that awaits the reply. */
static struct bytes server_name(struct worker *w, struct session *s, enum ledger_kind kind,
                                struct bytes name, bool named_portal)
{
    struct ledger *l = &s->backend->ledger;
    struct statement *statement = find(s, name);

    if (statement == NULL) {
        ledger_push(l, kind, FOR_MISSING, NULL)->missing = strndup((const char *)name.at, name.len);
        return bytes_of(nobody);
    }
    provide(w, s, statement);
    ledger_push(l, kind, FOR_CLIENT, NULL);
    if (kind == ASK_BIND) {
        atomic_fetch_add_explicit(&statement->used, 1, memory_order_relaxed);
        session_state_bind(s, statement, named_portal);
    }
    return (struct bytes){(const uint8_t *)statement->name, statement->name_len};
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

void session_forward_close(struct worker *w, struct session *s, const struct frame *f)
{
    struct cursor c = cursor_of(f->body + 1, f->body_len - 1);
    struct bytes name = cursor_string(&c);

    if (c.bad || cursor_left(&c) != 0) {
        malformed(w, s);
        return;
    }
    /* The backend keeps it: other clients share it. The name is the client's alone. */
    if (name.len > 0) {
        statement_map_remove(&s->statements, name);
    } else if (s->unnamed != NULL) {
        statement_unref(s->unnamed);
        s->unnamed = NULL;
    }
    ledger_push(&s->backend->ledger, ASK_CLOSE, FROM_POOLER, NULL);
    session_consume(w, s, FRAME_HEADER + f->body_len);
}

void session_close_excess(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct statement *statement;

    while ((statement = statement_set_excess(b->statements)) != NULL) {
        ledger_push(&b->ledger, ASK_CLOSE, FOR_POOLER, statement);
        put_header(w, s, 'C', 4 + 1 + statement->name_len + 1);
        conn_put_copy(w, &b->conn, "S", 1);
        conn_put_copy(w, &b->conn, statement->name, statement->name_len + 1);
        count_sent(w, s, FRAME_HEADER + 1 + statement->name_len + 1);
        log_trace(SESSION_LOG(s) "closing %s on pid=%d", SESSION_ID(s), statement->name, b->pid);
        statement_set_remove(b->statements, statement);
    }
}

const char *session_missing_text(const struct ledger_entry *entry)
{
    static _Thread_local char text[160];

    if (entry->missing == NULL || entry->missing[0] == '\0')
        return "unnamed prepared statement does not exist";
    snprintf(text, sizeof text, "prepared statement \"%s\" does not exist", entry->missing);
    return text;
}

void session_statements_free(struct session *s)
{
    statement_map_clear(&s->statements);
    if (s->unnamed != NULL)
        statement_unref(s->unnamed);
    s->unnamed = NULL;
}
