/* inherited.h: descriptors that a predecessor left open, and what it wants to be told. */
#ifndef ACTORS_INHERITED_H
#define ACTORS_INHERITED_H

#include "runtime/base.h"

/* Closes what is not known by option or environment; only when a predecessor started us. */
void inherited_close(int listener_fd, int link_fd);
/* Tells whoever started us that connections are accepted. */
void inherited_report_ready(void);
/* Where PgDoorman 3.10, which started us, hands over its clients; the caller's. -1: it did not. */
int inherited_migration_fd(void);

#endif
