/* A client of the console: passes its queries to the admin actor, one at a time. */
#define LOG_MODULE "pg_doorman::admin"
#include "actors/console.h"
#include "actors/session_login.h"

#include <stdio.h>

static void put_error(struct worker *w, struct session *s, const char *text)
{
    struct writer out;

    writer_init(&out);
    write_error(&out, "ERROR", "0A000", text);
    write_ready_for_query(&out, 'I');
    conn_put_copy(w, &s->conn, out.at, out.len);
    writer_free(&out);
}

static void put_ready(struct worker *w, struct session *s)
{
    static const uint8_t ready[] = {'Z', 0, 0, 0, 5, 'I'};

    conn_put_copy(w, &s->conn, ready, sizeof ready);
}

void console_ask(struct worker *w, struct session *s, struct bytes text)
{
    char who[160];

    snprintf(who, sizeof who, "%s %s", session_user(s), session_address(s));
    struct message *m = MESSAGE(ADMIN_QUERY, .text = text, .who = bytes_of(who));
    m->sender = actor_id_of(&s->actor);
    session_go(s, SESSION_ADMIN_BUSY);
    actor_tell(w, app.admin, m);
}

static void simple_query(struct worker *w, struct session *s, const struct frame *f)
{
    size_t len = f->body_len > 0 && f->body[f->body_len - 1] == '\0' ? f->body_len - 1
                                                                     : f->body_len;

    console_end_portals(s);
    console_ask(w, s, (struct bytes){f->body, len});
}

static void sync(struct worker *w, struct session *s)
{
    s->flags &= (uint16_t)~SESSION_SKIP_TO_SYNC;
    console_end_portals(s);
    put_ready(w, s);
}

void session_admin_input(struct worker *w, struct session *s)
{
    struct frame f;
    char text[64];

    switch (frame_peek(&f, session_input(s), session_input_len(s), BATCH_HIGH)) {
    case FRAME_PARTIAL: return;
    case FRAME_BROKEN: session_fatal(w, s, "08P01", "invalid message length", false); return;
    case FRAME_WHOLE: break;
    }
    if ((s->flags & SESSION_SKIP_TO_SYNC) && f.type != 'S' && f.type != 'X') {
        session_consume(w, s, FRAME_HEADER + f.body_len);
        return;
    }
    switch (f.type) {
    case 'Q': simple_query(w, s, &f); break;
    case 'X': session_close(w, s, NULL); return;
    case 'S': sync(w, s); break;
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
    case 'H': console_message(w, s, &f); break;
    case 'F': put_error(w, s, "function calls are not supported here"); break;
    case 'd':
    case 'c':
    case 'f': break;
    default:
        snprintf(text, sizeof text, "invalid frontend message type %u", f.type);
        session_fatal(w, s, "08P01", text, false);
        return;
    }
    session_consume(w, s, FRAME_HEADER + f.body_len);
}

void session_on_admin_result(struct worker *w, struct session *s, struct message *m)
{
    struct bytes bytes = message_get_ADMIN_RESULT(m).bytes;

    if (s->phase != SESSION_ADMIN_BUSY)
        return;
    session_go(s, SESSION_ADMIN);
    if (!console_result(w, s, bytes))
        conn_put_copy(w, &s->conn, bytes.at, bytes.len);
    if (s->in != NULL)
        session_on_startup_input(w, s);
}
