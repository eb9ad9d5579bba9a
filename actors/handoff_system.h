/* handoff_system.h: what an upgrade takes from the kernel, as far as it is about another process.
 *
 * The simulation has functions of these names of its own, over simulated processes and
 * descriptors (tests/simulation/processes.c); the program knows nothing of that.
 */
#ifndef ACTORS_HANDOFF_SYSTEM_H
#define ACTORS_HANDOFF_SYSTEM_H

#include "runtime/base.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/types.h>

/* For tests: the errno with which the kernel is to refuse this now, as PG_DOORMAN_UPGRADE_FAULT
 * says
 * ("what:ENOMEM", "what:ENOMEM*3" for the first three times, or "@path" of a file with that). 0:
 * nothing is refused. */
int handoff_refused(const char *what);

/* --- threads: not workers, so they may wait --- */
/* With all signals blocked. `out` NULL: nobody joins it. 0 or an errno. */
MUST_CHECK int handoff_thread_begin(pthread_t *out, const char *name, void *(*run)(void *));
void handoff_thread_join(pthread_t thread);
void handoff_pause(unsigned us);

/* --- the link: packets, with descriptors --- */
/* The end that the process was started with, or -1. Asked once. */
int handoff_link_inherited(void);
/* As sendmsg() and recvmsg(), without waiting: -1 and errno. */
ssize_t handoff_link_send(int fd, const struct msghdr *message);
ssize_t handoff_link_receive(int fd, struct msghdr *message);
/* As poll() of one descriptor. */
int handoff_wait(int fd, short events, int timeout_ms);

/* --- the other process --- */
pid_t process_self(void);
/* Who started this process with a link, dead or alive. */
pid_t process_parent(void);
/* A descriptor by which its end is seen; -1 with errno. */
int process_watch(pid_t pid);
/* Has it ended, all of it, by now or within that time? */
bool process_ended(int watch_fd, int timeout_ms);
void process_kill(pid_t pid);

#endif
