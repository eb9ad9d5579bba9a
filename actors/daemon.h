/* daemon.h: the root actor: signals, reload, drain and what must be done from time to time. */
#ifndef ACTORS_DAEMON_H
#define ACTORS_DAEMON_H

#include "actors/app.h"

struct root {
    struct actor actor;
    uint64_t drain_deadline_us; /* while app.draining */
    uint64_t drain_told_us;     /* when pools were last told */
    uint64_t house_kept_us;     /* when the last retain cycle was */
    uint64_t statistics_at_us;
    uint64_t roll_at_us;
    uint64_t sweep_at_us; /* texts of statements */
    uint64_t sweep_period_us;
    uint64_t shutdown_timeout_ms; /* fixed at start */
};

/* Makes the actor, known as app.daemon, and begins to read signals on the calling worker, which
 * must be the first. SIGTERM, SIGINT, SIGHUP and SIGUSR2 must be blocked in all threads. */
MUST_CHECK int daemon_launch(struct worker *w, struct failure *why);
/* Blocks those signals in the calling thread and those that it starts. */
void signals_block(void);

/* reload.c: from a coroutine. Loads the file again and puts it in force. 0, or -1 with the reason;
 * then nothing has changed. */
MUST_CHECK int reload(struct worker *w, bool *changed, struct failure *why);
/* signals.c */
MUST_CHECK int signals_read(struct worker *w, struct failure *why);
/* summary.c, statistics.c: what operators look for in the log. */
void summary_log(const struct config *config);
void warnings_log(const struct config *config);

#endif
