/* upgrade_internal.h: what the files of the upgrade share. */
#ifndef ACTORS_UPGRADE_INTERNAL_H
#define ACTORS_UPGRADE_INTERNAL_H

#include "actors/handoff.h"
#include "actors/upgrade.h"

struct upgrade_self {
    char **argv;
    char *program; /* absolute */
    const char *config_path;
    bool daemonized;
};
extern struct upgrade_self upgrade_self;

/* The successor that has taken over; 0: none has. */
pid_t upgrade_heir(void);
/* Before the commit: the end of this process is no longer the successor's. False: it ended, and has
 * ended the successor. */
bool upgrade_spare_child(void);
/* The outcome of an upgrade is known: reloads that waited for it happen now, here or there. */
void upgrade_reload_now(void);
/* Lets go of the descriptors that upgrade_reserve() keeps back. */
void upgrade_reserve_use(void);
/* A connection that both may know: the session here is told, if there is one. */
void upgrade_cancel(const struct handoff_packet *packet);

/* For tests of what happens when a process dies or stands still at this very moment, as the
 * environment variable PG_DOORMAN_UPGRADE_FAULT says: "point:action", or "@path" of a file with
 * that. `other`: 0 if there is none. True: this step is to fail, where it can. */
bool upgrade_test_point(const char *point, pid_t other);

#endif
