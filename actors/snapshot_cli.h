/* snapshot_cli.h: `pg_doorman snapshot FILE`: asks the running pooler for a snapshot.
 *
 * Called by options_answer(). A plain blocking client of the admin database; one connection.
 */
#ifndef ACTORS_SNAPSHOT_CLI_H
#define ACTORS_SNAPSHOT_CLI_H

#include "actors/options.h"

/* Returns the exit status: 0, 1 (no snapshot; the reason is on stderr) or 78 (configuration). */
int snapshot_take(const struct options *o);

/* The document in `\x...` text form becomes bytes, in place. -1: not that form. */
MUST_CHECK int snapshot_decode_hex(char *text, size_t len, size_t *out_len);

#endif
