/* What a lease left behind is put right while nobody waits: the client has its answer already. */
#define LOG_MODULE "pg_doorman::server"
#include "actors/backend_internal.h"

#include "runtime/log.h"

#include <errno.h>
#include <stdio.h>

static void note_row(struct exchange *x, const struct frame *frame)
{
    struct cursor c = cursor_of(frame->body, frame->body_len);

    cursor_u16(&c);
    struct bytes cell = cursor_bytes(&c, cursor_u32(&c));
    if (!c.bad)
        snprintf(x->cell, sizeof x->cell, "%.*s", (int)cell.len, (const char *)cell.at);
}

/* Of server_reset_query: it holds no statement any more, whoever it was that took them. */
static void note_tag(struct backend *b, const struct frame *frame)
{
    struct cursor c = cursor_of(frame->body, frame->body_len);
    struct bytes tag = cursor_string(&c);

    if (b->statements != NULL &&
        (bytes_equal(tag, bytes_of("DISCARD ALL")) || bytes_equal(tag, bytes_of("DEALLOCATE ALL"))))
        statement_set_clear(b->statements);
}

static int send_exchange(struct worker *w, struct backend *b, const struct exchange *x,
                         uint64_t deadline_us)
{
    struct writer out;

    writer_init(&out);
    if (x->sql != NULL) {
        write_query(&out, x->sql);
    } else {
        writer_begin(&out, 'S');
        writer_end(&out);
    }
    INVARIANT(!out.failed);
    int64_t sent = conn_write(w, &b->conn, out.at, out.len, deadline_us);
    writer_free(&out);
    return sent == 0 ? 0 : -1;
}

int backend_exchange(struct worker *w, struct backend *b, struct exchange *x)
{
    struct message_reader reader = {
        .conn = &b->conn, .deadline_us = clock_us() + b->effective->connect_timeout_ms * 1000};
    struct frame frame;
    struct parameter pair;
    int error = 0;
    int result = -1;
    bool refused = false;

    if (send_exchange(w, b, x, reader.deadline_us) != 0)
        return -1;
    while (reader_next(w, &reader, &frame, &error) == 0) {
        if (frame.type == 'E')
            refused = true;
        if (frame.type == 'D')
            note_row(x, &frame);
        if (frame.type == 'C')
            note_tag(b, &frame);
        if (frame.type == 'S' && read_parameter_status(frame.body, frame.body_len, &pair) == 0)
            backend_set_parameter(b, pair.name, pair.value);
        if (frame.type == 'Z' && frame.body_len == 1) {
            b->status = (char)frame.body[0];
            result = refused && !x->may_fail ? -1 : 0;
            break;
        }
    }
    reader_free(&reader);
    return result;
}

static int exchange_or(bool may_fail, struct worker *w, struct backend *b, const char *sql)
{
    struct exchange x = {.sql = sql, .may_fail = may_fail};

    return backend_exchange(w, b, &x);
}

static int exchange(struct worker *w, struct backend *b, const char *sql)
{
    return exchange_or(false, w, b, sql);
}

/* The server has signalled its process before it closed the cancel request's connection: what is
 * still to come of it strikes this, and nothing later. */
static int absorb_cancel(struct worker *w, struct backend *b)
{
    if (b->cancel_unsure)
        return -1;
    if ((b->dirt & DIRT_SYNC) && exchange_or(true, w, b, NULL) != 0)
        return -1;
    if (exchange_or(true, w, b, ";") != 0)
        return -1;
    if (b->status == 'I')
        b->dirt &= (uint16_t)~DIRT_ROLLBACK;
    b->dirt &= (uint16_t) ~(DIRT_CANCEL | DIRT_SYNC);
    b->needs_sync = false;
    b->cancels_sent = b->cancels_done = 0;
    return 0;
}

/* The statements that undo these kinds. They may share one query, and so one transaction. */
static void remedy(uint16_t kinds, char *sql, size_t size)
{
    static const struct {
        uint16_t kinds; /* any of them */
        const char *sql;
    } remedies[] = {
        {SCAN_AUTHORIZATION, "RESET SESSION AUTHORIZATION;"}, /* first: it decides what one may */
        {DIRT_STATE & ~DIRT_LAZY, "RESET ROLE;"},
        {SCAN_SET, "RESET ALL;"},
        {SCAN_PREPARE, "DEALLOCATE ALL;"},
        {SCAN_DECLARE, "CLOSE ALL;"},
        {SCAN_LISTEN, "UNLISTEN *;"},
        {SCAN_ADVISORY, "SELECT pg_catalog.pg_advisory_unlock_all();"},
        {SCAN_TEMP, "DISCARD TEMP;"},
    };
    size_t len = 0;

    for (size_t i = 0; i < COUNT_OF(remedies); i++) {
        size_t more = strlen(remedies[i].sql);

        if ((kinds & remedies[i].kinds) == 0)
            continue;
        INVARIANT(len + more < size);
        memcpy(sql + len, remedies[i].sql, more);
        len += more;
    }
    sql[len] = '\0';
}

static void has_no_settings(struct backend *b)
{
    parameter_set_unref(b->applied);
    b->applied = NULL;
    b->applied_stale = false;
    b->setting = 0;
}

/* What is there is what it has to be cleaned of, whatever the statements said. */
static int verify(struct worker *w, struct backend *b)
{
    uint16_t found;

    if (backend_verify(w, b, &found) != 0)
        return -1;
    b->dirt = (uint16_t)((b->dirt & ~(DIRT_VERIFY | DIRT_STATE)) | found);
    b->undone = 0;
    b->lasting = 0;
    has_no_settings(b);
    return 0;
}

static int clean_state(struct worker *w, struct backend *b)
{
    uint16_t now = b->dirt & DIRT_STATE;
    char sql[256];

    /* Its owner may come back for the rest; if another comes first, the pool asks again. */
    if (b->temp_owner != 0 && (now & ~DIRT_LAZY) != 0)
        now &= (uint16_t)~DIRT_LAZY;
    if (b->applied != NULL && !b->applied->tracked_only)
        now |= SCAN_SET; /* RESET ROLE may be among what undoes the others */
    remedy(now, sql, sizeof sql);
    log_info("[%s@%s] cleaning server pid=%d: %s", b->shared->user, b->shared->database, b->pid,
             sql);
    if (exchange(w, b, sql) != 0)
        return -1;
    if (now & SCAN_SET)
        has_no_settings(b);
    b->dirt &= (uint16_t)~now;
    b->undone = 0;
    b->setting = 0;
    b->lasting = 0;
    if ((b->dirt & DIRT_LAZY) == 0)
        b->temp_owner = 0;
    return 0;
}

/* What the owner of the pool wants done each time. What it clears for sure is clean; for the rest
 * the pooler cleans up as it would without. */
static int reset(struct worker *w, struct backend *b)
{
    const char *sql = b->effective->server_reset_query;
    struct scan_effect effect;

    b->dirt &= (uint16_t)~DIRT_RESET;
    if (sql == NULL)
        return 0; /* no longer: the pool was configured anew */
    if (exchange(w, b, sql) != 0) {
        log_warn("[%s@%s] server_reset_query failed pid=%d", b->shared->user, b->shared->database,
                 b->pid);
        return -1;
    }
    effect = scan_sql((const uint8_t *)sql, strlen(sql));
    b->dirt &= (uint16_t) ~(effect.clears & DIRT_STATE);
    if (effect.clears & SCAN_SET)
        has_no_settings(b);
    if ((b->dirt & DIRT_LAZY) == 0)
        b->temp_owner = 0;
    return 0;
}

/* What is left may be used by the client that left it, which may come back. */
static bool is_for_owner(const struct backend *b)
{
    return b->temp_owner != 0 && (b->dirt & ~DIRT_LAZY) == 0;
}

int backend_clean(struct worker *w, struct backend *b)
{
    if (b->dirt & DIRT_CANCEL) {
        if (absorb_cancel(w, b) != 0)
            return -1;
        if (is_for_owner(b))
            return b->status == 'I' ? 0 : -1;
    }
    if (b->dirt & DIRT_SYNC) {
        if (exchange(w, b, NULL) != 0)
            return -1;
        b->needs_sync = false;
        b->dirt &= (uint16_t)~DIRT_SYNC;
        if (b->status == 'I')
            b->dirt &= (uint16_t)~DIRT_ROLLBACK;
    }
    if (b->dirt & DIRT_ROLLBACK) {
        log_warn("[%s@%s] server returned in transaction, rolling back pid=%d", b->shared->user,
                 b->shared->database, b->pid);
        if (exchange(w, b, "ROLLBACK") != 0)
            return -1;
        b->dirt &= (uint16_t)~DIRT_ROLLBACK;
        b->needs_sync = false;
    }
    if (b->dirt & DIRT_RESET) {
        if (reset(w, b) != 0)
            return -1;
        if (is_for_owner(b))
            return b->status == 'I' ? 0 : -1;
    }
    if (b->dirt & DIRT_VERIFY) {
        if (verify(w, b) != 0)
            return -1;
        if (is_for_owner(b))
            return b->status == 'I' ? 0 : -1;
    }
    if (b->dirt != 0 && clean_state(w, b) != 0)
        return -1;
    return b->status == 'I' ? 0 : -1;
}

int backend_check(struct worker *w, struct backend *b)
{
    return exchange(w, b, ";");
}
