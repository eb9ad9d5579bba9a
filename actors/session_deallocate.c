/* DEALLOCATE as a Query, in transaction mode: the client's names are the pooler's, so the pooler
 * answers. Under the extended protocol it goes through the server (session_statements.c). */
#include "actors/session.h"

#include "proto/deallocate.h"

/* Whose names are meant is clear without a backend: nothing of SQL's own outlives a lease. */
static bool is_ours(const struct session *s, enum deallocate what, struct bytes name)
{
    const struct backend *b = s->backend;
    bool sqls = b != NULL && (b->dirt & SCAN_PREPARE);
    bool implicit = b != NULL && b->needs_sync; /* something was begun without a Sync */

    if (b != NULL && b->status == 'E')
        return false;
    if (what == DEALLOCATE_ALL)
        return !sqls && !implicit;
    return session_statement(s, name) != NULL ||
           (!sqls && !implicit && (b == NULL || b->status == 'I'));
}

/* As a Query it ends what was begun without a Sync, and only the server can do that, or say why it
 * cannot: it is given one that frees a name put up for the purpose. */
static void send_stand_in(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct writer out;

    session_put_up_freed(w, s);
    session_visible(s, ledger_push(&b->ledger, ASK_QUERY, FOR_CLIENT));
    writer_init(&out);
    write_query(&out, "DEALLOCATE \"" SESSION_FREED_NAME "\"");
    INVARIANT(!out.failed);
    conn_put_copy(w, &b->conn, out.at, out.len);
    writer_free(&out);
}

static enum deallocate read_query(const struct session *s, const struct frame *f,
                                  char name[DEALLOCATE_NAME + 1], uint32_t *name_len)
{
    if (f->type != 'Q' || f->have != f->body_len || f->body_len < 12 || f->body_len > 4096 ||
        s->mode != POOL_MODE_TRANSACTION)
        return DEALLOCATE_NOT;
    struct bytes text = {f->body, strnlen((const char *)f->body, f->body_len)};
    enum deallocate what = deallocate_read(text, name, name_len);
    return LIKELY(what == DEALLOCATE_NOT) || text.len + 1 != f->body_len ? DEALLOCATE_NOT : what;
}

bool session_is_deallocate(const struct session *s, const struct frame *f)
{
    char name[DEALLOCATE_NAME + 1];
    uint32_t name_len = 0;

    return read_query(s, f, name, &name_len) != DEALLOCATE_NOT;
}

enum deallocated session_deallocate(struct worker *w, struct session *s, const struct frame *f)
{
    char name[DEALLOCATE_NAME + 1];
    uint32_t name_len = 0;

    enum deallocate what = read_query(s, f, name, &name_len);
    if (LIKELY(what == DEALLOCATE_NOT))
        return DEALLOCATED_NOT;
    struct bytes freed = {(const uint8_t *)name, name_len};
    if (s->backend != NULL && !ledger_empty(&s->backend->ledger))
        return DEALLOCATED_LATER;
    if (!is_ours(s, what, freed))
        return DEALLOCATED_NOT;
    if (s->backend != NULL && s->backend->needs_sync) {
        session_forget(s, freed);
        send_stand_in(w, s);
        session_consume(w, s, FRAME_HEADER + f->body_len);
        return DEALLOCATED;
    }
    if (what == DEALLOCATE_ALL)
        session_forget_all(s);
    else
        session_forget(s, freed);
    char status = s->backend != NULL ? s->backend->status : s->begin_owed ? 'T' : 'I';
    session_answer(w, s, what == DEALLOCATE_ALL ? "DEALLOCATE ALL" : "DEALLOCATE", status);
    session_consume(w, s, FRAME_HEADER + f->body_len);
    return DEALLOCATED;
}
