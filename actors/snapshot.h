/* snapshot.h: everything that the process knows of itself, as one msgpack document.
 *
 * Actors are visited one after the other, so they are true each for its own moment; one that
 * cannot be visited is listed as busy. No secrets. `pg_doorman inspect` prints the document.
 */
#ifndef ACTORS_SNAPSHOT_H
#define ACTORS_SNAPSHOT_H

#include "runtime/pack.h"

struct worker;

/* From a coroutine. Appends one map. */
void snapshot_build(struct worker *w, struct packer *out);

#endif
