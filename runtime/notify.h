/* notify.h: tells systemd how the service stands (sd_notify's datagrams, without its library).
 *
 * For main and the upgrade: notify_ready() once connections are accepted, notify_main_pid() when
 * a successor has taken over. Without NOTIFY_SOCKET in the environment all of them succeed and do
 * nothing. Waits for a full socket for at most a fraction of a second. Any thread. On -1 log
 * "sd_notify READY failed: %s" or "sd_notify MAINPID failed: %s" and go on.
 */
#ifndef RUNTIME_NOTIFY_H
#define RUNTIME_NOTIFY_H

#include "runtime/base.h"

bool notify_wanted(void);
MUST_CHECK int notify_ready(struct failure *why);
MUST_CHECK int notify_main_pid(int pid, struct failure *why);
MUST_CHECK int notify_status(const char *text, struct failure *why);
/* Waits until all that was sent before has been read, for at most that long: whoever ends right
 * after it has told something may be forgotten together with that. */
MUST_CHECK int notify_barrier(int timeout_ms, struct failure *why);
/* One or more "KEY=value" lines as they are. */
MUST_CHECK int notify_send(const char *state, struct failure *why);

#endif
