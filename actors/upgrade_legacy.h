/* upgrade_legacy.h: PgDoorman 3.10 as the successor. It takes clients one by one, each when it
 * rests between two transactions, and nothing else: there is no commit, and no word back.
 */
#ifndef ACTORS_UPGRADE_LEGACY_H
#define ACTORS_UPGRADE_LEGACY_H

#include "actors/migration.h"
#include "actors/session.h"
#include "actors/upgrade.h"

/* One freeze: the clients that rest are sent, as many as there is time for. The others, and those
 * for whom the socket has no room, follow in another round. ROUND_MOVED, ROUND_NOTHING, or
 * ROUND_FAILED: the world did not stop, or the socket takes nobody any more. */
enum round_result upgrade_legacy_round(struct upgrade_child *child, struct failure *why);

/* migration_pack.c: while the world stands. -1 with the reason: 3.10 cannot take this one. */
MUST_CHECK int migration_of_session(struct session *s, struct writer *out, struct failure *why);

#endif
