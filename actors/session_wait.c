/* A statement that is cancelled while it waits for a backend: no server has seen it, so it is the
 * pooler that ends it, at once and for certain, as the server would.
 *
 * If a BEGIN is owed (session_local.c), its transaction must exist to have failed: then the
 * statement waits on, and is cancelled when it runs. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/session.h"

#include "runtime/log.h"

void session_cancel_wait(struct worker *w, struct session *s)
{
    INVARIANT(s->phase == SESSION_WAITING && (s->flags & SESSION_ASKED) != 0);
    if (s->cancel_wanted)
        return;
    s->cancel_wanted = true;
    if (s->begin_owed)
        return;
    struct message *m = MESSAGE(POOL_WITHDRAW, .ticket = s->ticket, .since_us = s->asked_us);

    m->sender = actor_id_of(&s->actor);
    /* A pool that is gone has refused everyone first: that answer is in the mailbox. */
    actor_tell(w, atomic_load(&s->shared->pool), m);
}

bool session_wait_is_off(const struct session *s)
{
    return s->phase == SESSION_WAITING && s->cancel_wanted && !s->begin_owed;
}

void session_end_wait(struct worker *w, struct session *s)
{
    struct writer out;
    struct frame f;

    s->cancel_wanted = false;
    s->skip_parameters = false;
    session_capture_end(s, false); /* the next reply is to something else */
    s->flags &= (uint16_t)~SESSION_BATCH;
    session_go(s, SESSION_IDLE);
    frame_peek(&f, session_input(s), session_input_len(s), FRAME_LIMIT);
    bool alone = f.type == 'Q' || f.type == 'F';
    writer_init(&out);
    write_error(&out, "ERROR", "57014", "canceling statement due to user request");
    if (alone)
        write_ready_for_query(&out, 'I');
    INVARIANT(!out.failed);
    conn_put_copy(w, &s->conn, out.at, out.len);
    writer_free(&out);
    s->errors++;
    if (alone)
        session_discard(w, s, &f);
    else
        s->skip_to_sync = true;
    log_info(SESSION_LOG(s) "statement cancelled while it waited for a server", SESSION_ID(s));
    session_on_client_input(w, s);
}

bool session_skip(struct worker *w, struct session *s)
{
    uint8_t storage[16];
    struct writer out;
    struct frame f;

    if (frame_peek(&f, session_input(s), session_input_len(s), FRAME_LIMIT) == FRAME_BROKEN) {
        session_fatal(w, s, "08P01", "invalid message length", false);
        return false;
    }
    if (f.body == NULL)
        return false;
    if (f.type == 'X') {
        s->terminated = true;
        session_close(w, s, NULL);
        return false;
    }
    session_discard(w, s, &f);
    if (f.type != 'S')
        return true;
    s->skip_to_sync = false;
    writer_init_fixed(&out, storage, sizeof storage);
    write_ready_for_query(&out, 'I');
    INVARIANT(!out.failed);
    conn_put_copy(w, &s->conn, out.at, out.len);
    return true;
}
