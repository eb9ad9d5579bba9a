/* backend_internal.h: what the files of the backend actor share. All of it runs on a borrowed
 * stack and may wait. */
#ifndef ACTORS_BACKEND_INTERNAL_H
#define ACTORS_BACKEND_INTERNAL_H

#include "actors/backend.h"
#include "proto/messages.h"

struct backend_error {
    enum backend_failure kind;
    char sqlstate[6];
    char text[320];
};

/* Connects and logs in, within connect_timeout: 0, or -1 with the reason. */
MUST_CHECK int backend_login(struct worker *w, struct backend *b, struct backend_error *error);
/* Rolls back and resets what its dirt says: 0, or -1 when it must be closed. */
MUST_CHECK int backend_clean(struct worker *w, struct backend *b);
/* A simple query, or a Sync (sql is NULL), and its reply up to ReadyForQuery: 0, or -1 when that
 * did not come, or it failed and may not. */
struct exchange {
    const char *sql;
    bool may_fail;
    char cell[16]; /* out: the first column of its last row */
};
MUST_CHECK int backend_exchange(struct worker *w, struct backend *b, struct exchange *x);
/* Asks the backend which kinds of state (enum scan_kind) are there that should not be: 0, or -1. */
MUST_CHECK int backend_verify(struct worker *w, struct backend *b, uint16_t *found);
/* For auth_query: who is that? 0: `result` says. -1: the connection is no good any more; `result`
 * has the problem. lookup_result_begin() is called here. */
struct lookup_result;
MUST_CHECK int backend_lookup(struct worker *w, struct backend *b, const char *query,
                              const char *user, struct lookup_result *result);
/* Is it alive? An empty query. */
MUST_CHECK int backend_check(struct worker *w, struct backend *b);

/* Reads whole messages, one at a time, from a coroutine. */
struct message_reader {
    struct conn *conn;
    uint64_t deadline_us;
    uint8_t *at; /* malloc'ed */
    size_t len;
    size_t used;
    size_t size;
};
void reader_free(struct message_reader *r);
/* The next message, borrowed until the next call: 0, -1 with the reason (errno-like in *error). */
MUST_CHECK int reader_next(struct worker *w, struct message_reader *r, struct frame *out,
                           int *error);

#endif
