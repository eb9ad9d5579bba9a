/* upgrade_build.h: what arrives with one round of an upgrade, on the side that takes it over. */
#ifndef ACTORS_UPGRADE_BUILD_H
#define ACTORS_UPGRADE_BUILD_H

#include "actors/state.h"
#include "actors/upgrade_load.h"

struct upgrade_built {
    uint32_t sessions;
    uint32_t backends;
    uint32_t waiters;
    uint32_t in_transaction;
    uint32_t without_pool; /* sessions whose pool is not configured any more: told and ended */
};

/* Before the commit: is everything that the document needs there? 0, or -1 with the reason. */
MUST_CHECK int upgrade_build_check(const struct state_document *d, struct failure *why);
/* After it, on the first worker, while the world stands: makes the actors, which begin when it goes
 * on. Descriptor n of the document is fds[n-1], taken over. It cannot fail. */
void upgrade_build(struct worker *w, const struct state_document *d, const int *fds,
                   struct upgrade_built *out);

#endif
