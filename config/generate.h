/* generate.h: writes configuration files: for the databases and users of a PostgreSQL, or as an
 * example. Pure: text in memory; who asks PostgreSQL is actors/generate_cli.c.
 */
#ifndef CONFIG_GENERATE_H
#define CONFIG_GENERATE_H

#include "runtime/base.h"

struct generate_user {
    const char *name;
    const char *secret; /* "": none is stored */
};

struct generate_request {
    bool yaml;     /* else TOML */
    bool comments; /* each setting explained, and those that are not set as examples */
    bool russian;  /* the comments */
    const char *server_host;
    unsigned server_port;
    bool session_mode;
    bool server_tls; /* server_tls_mode = require */
    unsigned pool_size;
    const char **databases; /* sorted in place; a pool each */
    size_t database_count;
    const struct generate_user *users; /* in every pool */
    size_t user_count;
};

/* One pool and one user, as in the files of examples/. Fills everything that the file is about. */
void generate_example(struct generate_request *request);
/* The whole file, malloc'ed, with a NUL. It loads without a warning if the secrets do. */
char *generate_configuration(struct generate_request *request);

#endif
