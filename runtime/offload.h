/* offload.h: threads for what would block a worker: name look-ups, PAM, LDAP, slow files.
 *
 * A few helper threads, started when there is work and ended when there has been none for a while.
 * The coroutine that hands out work is suspended; its worker goes on with others. Start and stop
 * are for the main thread.
 */
#ifndef RUNTIME_OFFLOAD_H
#define RUNTIME_OFFLOAD_H

#include "runtime/base.h"

#include <sys/socket.h>

struct worker;

/* At most that many threads; none is started yet. */
void offload_start(unsigned threads_max);
/* No more work is taken, idle threads end. Waits for those that work, but not for long. */
void offload_stop(void);
/* How many threads there are, and how much work waits for one. */
unsigned offload_threads(void);
unsigned offload_queued(void);

/* Runs it on a helper thread while the calling coroutine is suspended. 0, or -ECANCELED: it was not
 * run, for there are no helpers. */
MUST_CHECK int offload_run(struct worker *w, void (*run)(void *argument), void *argument);
/* The same, but waits until deadline_us only (0 = for ever). At -ETIMEDOUT the argument belongs to
 * the helper, which calls release(argument) when run() has ended; else it is still the caller's. */
MUST_CHECK int offload_run_until(struct worker *w, void (*run)(void *argument), void *argument,
                                 void (*release)(void *argument), uint64_t deadline_us);

/* The first address of a host, by name or literal (IPv6 with or without brackets; literals need no
 * thread). 0 or -1. From a coroutine. */
MUST_CHECK int io_resolve(struct worker *w, const char *host, uint16_t port,
                          struct sockaddr_storage *address, socklen_t *len, struct failure *why);
MUST_CHECK int io_resolve_until(struct worker *w, const char *host, uint16_t port,
                                uint64_t deadline_us, struct sockaddr_storage *address,
                                socklen_t *len, struct failure *why);

#endif
