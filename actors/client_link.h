/* client_link.h: a client of PostgreSQL's protocol for commands that run and end: blocking sockets,
 * a time limit on each wait, simple queries. `snapshot` asks the pooler with it, `generate` asks
 * PostgreSQL.
 */
#ifndef ACTORS_CLIENT_LINK_H
#define ACTORS_CLIENT_LINK_H

#include "runtime/base.h"

struct link_target {
    const char *host; /* a directory: the Unix socket in it */
    int port;
    const char *user;
    const char *password; /* plain, or a stored MD5 secret; NULL: none */
    const char *database;
    const char *application;
    bool cleartext;      /* the password may be sent as it is, when asked for */
    bool tls;            /* not without TLS, and not with a stranger; Unix sockets need none */
    const char *peer;    /* how messages call the other side: "the pooler" */
    const char *refusal; /* before the text of its errors: "the pooler answers: " */
};

struct client_link;

/* Connects and logs in. The target is borrowed until the close; `why` is where all failures of this
 * link are told. */
MUST_CHECK int client_link_open(struct client_link **out, const struct link_target *target,
                                struct failure *why);
/* One row of an answer, borrowed; NULL cells have no address. -1 with a reason ends the query. */
typedef int client_link_row(void *context, const struct bytes *cells, size_t count,
                            struct failure *why);
/* After a failure the link is only good for closing. */
MUST_CHECK int client_link_query(struct client_link *l, const char *sql, client_link_row *row,
                                 void *context);
void client_link_close(struct client_link *l);

#endif
