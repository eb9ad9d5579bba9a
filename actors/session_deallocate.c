/* DEALLOCATE as a Query, in transaction mode: the client's names are the pooler's, so the pooler
 * answers. Under the extended protocol it goes through the server (session_statements.c). */
#include "actors/session.h"

#include "proto/deallocate.h"

/* Whose names are meant is clear without a backend: nothing of SQL's own outlives a lease. */
static bool is_ours(const struct session *s, enum deallocate what, struct bytes name)
{
    const struct backend *b = s->backend;
    bool sqls = b != NULL && (b->dirt & SCAN_PREPARE);

    if (b != NULL && b->status == 'E')
        return false;
    /* With what was begun without a Sync (end_implicit) the server can do it as well. */
    if (what == DEALLOCATE_ALL)
        return !sqls && (b == NULL || !b->needs_sync);
    return session_statement(s, name) != NULL || (!sqls && (b == NULL || b->status == 'I'));
}

/* As a Query it ends what was begun without a Sync, and only the server can do that. */
static void end_implicit(struct worker *w, struct session *s)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    struct backend *b = s->backend;

    session_before_sync(w, s);
    b->traits = 0;
    ledger_push(&b->ledger, ASK_SYNC, FOR_POOLER);
    conn_put_copy(w, &b->conn, sync, sizeof sync);
}

enum deallocated session_deallocate(struct worker *w, struct session *s, const struct frame *f)
{
    char name[DEALLOCATE_NAME + 1];
    uint32_t name_len = 0;

    if (f->type != 'Q' || f->have != f->body_len || f->body_len < 12 || f->body_len > 4096 ||
        s->mode != POOL_MODE_TRANSACTION)
        return DEALLOCATED_NOT;
    struct bytes text = {f->body, strnlen((const char *)f->body, f->body_len)};
    enum deallocate what = deallocate_read(text, name, &name_len);
    if (LIKELY(what == DEALLOCATE_NOT) || text.len + 1 != f->body_len)
        return DEALLOCATED_NOT;
    struct bytes freed = {(const uint8_t *)name, name_len};
    if (s->backend != NULL && !ledger_empty(&s->backend->ledger))
        return DEALLOCATED_LATER;
    if (!is_ours(s, what, freed))
        return DEALLOCATED_NOT;
    if (s->backend != NULL && s->backend->needs_sync) {
        end_implicit(w, s);
        return DEALLOCATED_LATER;
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
