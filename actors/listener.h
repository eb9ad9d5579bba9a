/* listener.h: the sockets on which clients arrive, one actor each.
 *
 * Main opens them before any worker runs, so that what is wrong ends the start with a status, and
 * ends them when no worker runs any more.
 */
#ifndef ACTORS_LISTENER_H
#define ACTORS_LISTENER_H

#include "actors/app.h"

#include <sys/stat.h>

struct listener {
    struct actor actor;
    struct io_poll poll; /* in flight, or the actor has been told, or an alarm is set */
    int fd;
    const struct config *options_of; /* whose options it has; compared only */
    bool local;                      /* Unix socket */
    bool held;                       /* nobody is accepted for now */
    char address[160];               /* for people: "127.0.0.1:6432", or the path */
    dev_t device;                    /* of the socket file, as it was made */
    ino_t inode;
    uint64_t complained_us; /* of a lack of descriptors */
    bool retires;           /* inherited, where the configuration wants none any more */
    uint64_t retire_us;     /* when it is closed; 0: not begun */
};

/* On failure NULL and the status for the process to end with. */
struct listener *listener_open_tcp(const struct general_config *general, int *status,
                                   struct failure *why);
/* Takes over a descriptor that listens already. */
struct listener *listener_adopt(int fd, int *status, struct failure *why);
/* `replaces`: in place of this process's parent, if that listens there. */
struct listener *listener_open_local(const struct general_config *general, bool replaces,
                                     int *status, struct failure *why);
/* The same for a Unix socket that a predecessor made, if it is the one that is configured. */
struct listener *listener_adopt_local(int fd, const struct general_config *general);
/* Does an adopted one stand where the configuration wants it? Yes if that cannot be told. */
bool listener_stands(const struct listener *l, const struct general_config *general);
/* A Unix socket of a predecessor, wherever it is. NULL: it has no path. */
struct listener *listener_adopt_path(int fd);
/* Begins to accept who is there already or comes in the next moment, and closes it after that, with
 * its socket file. NULL is fine. */
void listener_retire(struct worker *w, struct listener *l);
/* Closes the descriptor, which another process has: its socket file is no more ours. */
void listener_abandon(struct listener *l);
/* For a successor that insists on making the socket file itself: this one gets another name, for as
 * long as it may have to come back. False: it could not be renamed. */
bool listener_step_aside(const struct listener *l);
void listener_step_back(const struct listener *l);
/* It does not: the other name goes. */
void listener_stay_aside(const struct listener *l);
/* It begins to accept. */
void listener_launch(struct worker *w, struct listener *l);
/* Closes it, and removes the socket file if that is still the one that was made. NULL is fine. */
void listener_end(struct listener *l);

/* --- between the files of the listener --- */
struct listener *listener_new(int fd, bool local);
/* "1.2.3.4:5", "[::1]:5" or "unix". */
void address_text(const struct sockaddr_storage *address, char *out, size_t size);
/* listener_local.c */
void listener_remove_file(const struct listener *l);

#endif
