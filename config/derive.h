/* derive.h: settings of users that are not written down.
 *
 * A user that auth_query has found gets what the auth_query section says, under a name of its own
 * and with startup parameters of its own. They live as long as the configuration.
 */
#ifndef CONFIG_DERIVE_H
#define CONFIG_DERIVE_H

#include "config/config.h"

/* What connections of this user have in a pool of `config` with auth_query in pass-through mode.
 * `overlay` is sorted by canonical name, wins over the pool's parameters, and is copied. The same
 * arguments give the same object. Never NULL. Any thread. */
const struct effective *config_derive(struct config *config, const struct pool_config *pool,
                                      const char *user, const struct pair_list *overlay);
/* For config_unref(). */
void derived_free(struct derived **buckets);
enum { STARTUP_PACKET_BYTES_MAX = 10000, STARTUP_BODY_BYTES_MAX = STARTUP_PACKET_BYTES_MAX - 512 };

/* A StartupMessage with all of this. */
struct startup_size {
    size_t body_bytes; /* of the startup parameters alone */
    size_t packet_bytes;
    bool fits; /* PostgreSQL takes it */
};

struct startup_size startup_size(const struct effective *effective);

#endif
