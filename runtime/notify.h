/* notify.h: tells systemd how the service stands (sd_notify's datagrams, without its library).
 *
 * For main, reloads and upgrades. Without NOTIFY_SOCKET in the environment all of them succeed and
 * do nothing. They wait for a full socket, for at most a fraction of a second: not for a worker
 * that serves. Any thread. On -1 log "sd_notify READY failed: %s" (or whatever it was) and go on.
 *
 * Only the main process is listened to, unless the unit says NotifyAccess=all: a successor speaks
 * after its predecessor has named it and the manager has read that (notify_barrier()).
 */
#ifndef RUNTIME_NOTIFY_H
#define RUNTIME_NOTIFY_H

#include "runtime/base.h"

bool notify_wanted(void);
MUST_CHECK int notify_ready(struct failure *why);
MUST_CHECK int notify_main_pid(int pid, struct failure *why);
/* It has begun to reload, whatever that means; notify_serving() ends it. */
MUST_CHECK int notify_reloading(const char *status, struct failure *why);
/* READY=1, with what the manager shows about it. */
MUST_CHECK int notify_serving(const char *status, struct failure *why);
/* Waits until all that was sent before has been read, for at most that long: whoever ends right
 * after it has told something may be forgotten together with that. */
MUST_CHECK int notify_barrier(int timeout_ms, struct failure *why);
/* One or more "KEY=value" lines as they are. */
MUST_CHECK int notify_send(const char *state, struct failure *why);

#endif
