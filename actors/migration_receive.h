/* migration_receive.h: clients that PgDoorman 3.10 hands over when this program takes its place
 * (actors/migration.h). A thread reads them from the socket that process has left open, and each
 * becomes a session on a worker; meanwhile new clients are served.
 */
#ifndef ACTORS_MIGRATION_RECEIVE_H
#define ACTORS_MIGRATION_RECEIVE_H

#include "runtime/base.h"

/* When the workers run, and the predecessor has been told so. Takes over the descriptor. 0, or -1:
 * there is no thread. */
MUST_CHECK int migration_receive_start(int fd, struct failure *why);
/* Clients may still come. Any thread. */
bool migration_receive_busy(void);
/* Before the workers end: nothing comes from now on. Waits for the thread. */
void migration_receive_finish(void);

#endif
