/* validate.h: does the configuration make sense? The first thing that does not is the failure. */
#ifndef CONFIG_VALIDATE_H
#define CONFIG_VALIDATE_H

#include "config/decode.h"

struct validator {
    struct config *config;
    const struct tree *root; /* for positions */
    struct arena *arena;
    struct notes *warnings;
    struct failure *why;
};

/* Checks in the documented order; fills derived fields and config->hba. The failure is the full
 * text, with its prefix ("Configuration error: " or "JWT public key error: "). */
MUST_CHECK int config_validate(struct validator *v);

/* For the parts of the validation. */

/* "Configuration error: <text> (file:line)"; no position without a node. Returns -1. */
PRINTF_LIKE(3, 4) int refuse(struct validator *v, const struct tree *node, const char *format, ...);
/* The node at root.a.b.c, or the innermost one that exists; trailing names may be NULL. */
const struct tree *node_of(const struct validator *v, const char *a, const char *b, const char *c);
/* "file:line: " of a node, for warnings; "" for NULL. In the arena. */
const char *node_place(const struct validator *v, const struct tree *node);
const struct tree *user_node(const struct validator *v, const struct pool_config *pool,
                             const struct user_config *user, const char *key);

MUST_CHECK int validate_startup_parameters(struct validator *v);
MUST_CHECK int validate_pool_startup_parameters(struct validator *v,
                                                const struct pool_config *pool);
MUST_CHECK int validate_client_tls(struct validator *v);
MUST_CHECK int validate_server_tls(struct validator *v);
MUST_CHECK int validate_pool(struct validator *v, const struct pool_config *pool);
MUST_CHECK int validate_public_key(struct validator *v, const struct tree *node, const char *path);
MUST_CHECK int validate_urls(struct validator *v, const struct tree *node, const char *scope,
                             const struct string_list *urls);
/* A number within the bounds of its row; `scope` stands before the name. */
MUST_CHECK int validate_bounds(struct validator *v, const struct setting *s, const void *base,
                               const struct tree *node, const char *scope);
void config_warn(struct validator *v);

/* -1 for a word that is no mode. Letter case is ignored. */
int server_tls_mode_parse(const char *text);

#endif
