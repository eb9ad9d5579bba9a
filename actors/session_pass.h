/* session_pass.h: bytes of a server on their way to its client: what the two files of it share. The
 * stream (session_output.c) finds the messages, session_replies.c tells what each of them means. */
#ifndef ACTORS_SESSION_PASS_H
#define ACTORS_SESSION_PASS_H

#include "actors/session.h"

/* What becomes of a message. REPLACED: something else was sent in its place. */
enum verdict { FORWARD, SWALLOW, REPLACED };

/* One received block. */
struct pass {
    struct worker *w;
    struct session *s;
    struct backend *b;
    struct rbuf *buf;
    const uint8_t *run; /* start of what is to be forwarded and is not yet */
    const uint8_t *at;
    const uint8_t *end;
};

/* --- session_output.c --- */

/* Forwards what was passed over, up to there. */
void session_put_run(struct pass *p, const uint8_t *to);

/* --- session_replies.c --- */

/* The ledger is consumed by a message at `at` whose body has `len` bytes here: all of it, but for
 * very long ones. b->broken: no server says such a thing. */
enum verdict session_on_reply(struct pass *p, uint8_t type, const uint8_t *body, uint32_t len);
/* Does the server end the connection with this? */
bool session_is_fatal(const struct error_fields *fields);

#endif
