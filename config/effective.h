/* effective.h: who inherits what. */
#ifndef CONFIG_EFFECTIVE_H
#define CONFIG_EFFECTIVE_H

#include "config/arena.h"
#include "config/config.h"

/* Backend TLS, each key from the pool or else from general. */
struct server_tls {
    enum server_tls_mode mode;
    const char *ca_cert;
    const char *certificate;
    const char *private_key;
};
/* `pool` may be NULL. The modes have been checked, or read as disable. */
struct server_tls server_tls_resolve(const struct general_config *g,
                                     const struct pool_config *pool);
/* Both sorted by canonical name; entries of `over` win. */
struct pair_list pairs_merge(struct arena *arena, const struct pair_list *base,
                             const struct pair_list *over);
/* Fills `effective` of all users and auth_query sections of a validated configuration. */
void config_resolve(struct config *config, struct arena *arena);

#endif
