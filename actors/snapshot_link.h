/* snapshot_link.h: the conversation of `pg_doorman snapshot` with the pooler: one query. */
#ifndef ACTORS_SNAPSHOT_LINK_H
#define ACTORS_SNAPSHOT_LINK_H

#include "runtime/base.h"

struct snapshot_target {
    const char *host; /* a directory: the Unix socket in it */
    int port;
    const char *user;
    const char *password; /* plain, or a stored MD5 secret; NULL: none */
};

/* *text is the one cell of the answer; free it. */
MUST_CHECK int snapshot_fetch(const struct snapshot_target *target, char **text, size_t *len,
                              struct failure *why);

#endif
