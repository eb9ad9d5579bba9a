/* daemonize.h: going to the background, and the PID file.
 *
 * For main(), with --daemon: load the configuration, then daemon_fork() before any thread starts
 * (so also before log_start(); then syslog carries the daemon's PID), then do the rest of the
 * start as in the foreground, and call daemon_ready() once the listeners are open. Until then
 * stderr is still the caller's, so a failure on the way is reported as in the foreground: print
 * it, exit(71), exit(78) or exit(1), and the waiting caller ends with the same status.
 */
#ifndef ACTORS_DAEMONIZE_H
#define ACTORS_DAEMONIZE_H

#include "runtime/base.h"

enum { DAEMON_FAILED_STATUS = 71 };

struct daemon {
    int ready_fd; /* -1: ready, or never forked */
    int pid_fd;
    char *pid_path;
};

/* Returns 0 in the daemon only, with stdin and stdout on /dev/null. The caller does not come
 * back: it waits for the daemon and exits, 0 once it is ready. -1 (in the caller): could not even
 * begin; print "Error daemonize: " and the text, and exit DAEMON_FAILED_STATUS. */
MUST_CHECK int daemon_fork(struct daemon *d, struct failure *why);

/* Writes the PID file, lets go of stderr and the caller. On -1 nothing was told to the caller yet;
 * print "Error daemonize: " and the text, and exit DAEMON_FAILED_STATUS. */
MUST_CHECK int daemon_ready(struct daemon *d, const char *pid_path, struct failure *why);

/* For a process that takes the place of a daemon: the PID file is its own from now on. Whoever
 * reads it finds one of the two at any moment. Also for a daemon whose place was taken, but not for
 * long. */
MUST_CHECK int daemon_adopt(struct daemon *d, const char *pid_path, struct failure *why);

/* At the end of the process: removes the PID file if it still names this process (a successor
 * may have written its own). Also right for a daemon that was never started. */
void daemon_end(struct daemon *d);

/* Creates or overwrites; the descriptor is close-on-exec and belongs to the caller. -1: reason. */
MUST_CHECK int pid_file_write(const char *path, struct failure *why);
/* The same, but what was there stays until all of it is: a file of another name takes its place. */
MUST_CHECK int pid_file_replace(const char *path, struct failure *why);
bool pid_file_is_own(const char *path);
/* True when it was ours and is gone. */
bool pid_file_remove_own(const char *path);

#endif
