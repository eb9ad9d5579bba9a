/* upgrade.h: the program is replaced while it runs, and its sessions go along.
 *
 * docs/upgrade.md tells the whole story. The process that gives away runs upgrade_run() on a thread
 * of its own; the one that takes over a successor's thread. Until the commit word says so
 * (actors/handoff.h) everything is the first one's, and it can go on as if nothing had been.
 */
#ifndef ACTORS_UPGRADE_H
#define ACTORS_UPGRADE_H

#include "actors/upgrade_load.h"

#include <sys/types.h>

struct listener;

/* --- for main --- */
/* What an upgrade has to know of this process; argv lives on. Once, before any thread. */
void upgrade_know(char **argv, const char *config_path, bool daemonized);
/* The sockets on which clients arrive, NULL for one that there is not. */
void upgrade_listeners(struct listener *tcp, struct listener *local);
/* A few descriptors are kept back, so that a full table does not stand in the way. */
void upgrade_reserve(void);
/* At the end of the process, whatever its reason: a successor that cannot take over ends too.
 * True: one has, and what belongs to the service (socket file, PID file) is its. */
bool upgrade_finish(void);
/* Runs on the upgrade's thread when one has failed, whatever its successor may have begun: what
 * names the process outside (the PID file) is to name this one. */
void upgrade_when_back(void (*serves_on)(void));
/* upgrade_signals.c: the first process of a container must not end while its successor serves: it
 * passes signals on and collects what ends, until nobody serves. The status for its own end. */
int upgrade_stand_by(void);

/* --- for the daemon --- */
/* Begins one, unless one is under way already (said in the log). */
void upgrade_start(struct worker *w, const char *why);
/* From the request on, till it has failed; for ever if it has not. Any thread. */
bool upgrade_running(void);
/* upgrade_signals.c: a signal has come to this process. True: it has been dealt with, by an upgrade
 * that is under way, or by who serves instead of this process. */
bool upgrade_signalled(int number);
/* The configuration has been read again here. A successor may have read it before. */
void upgrade_reloaded(void);
/* As the first process of a container: collects processes that are nobody's. From time to time. */
void upgrade_collect_strangers(void);

/* --- what SHOW UPGRADE tells --- */
struct upgrade_status {
    char phase[24];
    uint64_t generation;
    uint64_t rounds;
    uint64_t sessions;       /* moved */
    uint64_t in_transaction; /* of them, together with their backend */
    uint64_t waiters;        /* of them, with their places */
    uint64_t backends;       /* moved */
    uint64_t sessions_left;
    uint64_t backends_left;
    char left_reasons[256];
    uint64_t freeze_us; /* of the latest round */
    uint64_t longest_freeze_us;
    uint64_t total_us; /* from the request to the end */
    pid_t predecessor;
    pid_t successor;
    char result[16]; /* of the last one: ok, aborted, reclaimed, adopted; or none */
    char error[512];
};
void upgrade_status_get(struct upgrade_status *out);
/* Runs change() with the lock held. */
void upgrade_status_change(void (*change)(struct upgrade_status *status, void *context),
                           void *context);
void upgrade_phase(const char *phase);
void upgrade_failed(const char *result, const char *error);

/* What the configuration says of upgrades, as one finds it when it begins. */
struct upgrade_plan {
    bool drains;        /* upgrade_mode: transactions end in this process */
    bool aborts;        /* upgrade_incomplete: rather than leaving clients for later */
    uint64_t ready_us;  /* from the start of the new process to its word that it waits */
    uint64_t settle_us; /* for logins, before the freeze */
    uint64_t freeze_us; /* up to its word that it is prepared */
    uint64_t guard_us;  /* for the new process to prove itself */
    uint64_t linger_us; /* for those who could not move in the first round */
};

/* --- upgrade_spawn.c --- */
struct upgrade_child {
    pid_t pid;
    int watch;     /* its end */
    int link;      /* actors/handoff.h */
    int ready_fd;  /* on which PgDoorman 3.10 says that it is ready */
    int migration; /* on which it takes clients; -1: it cannot */
};
#define UPGRADE_NO_CHILD                                                    \
    {                                                                       \
        .pid = -1, .watch = -1, .link = -1, .ready_fd = -1, .migration = -1 \
    }
/* Runs the program on disk with -t on the configuration: 0, or -1 with what it said. */
MUST_CHECK int upgrade_validate(struct failure *why);
MUST_CHECK int upgrade_spawn(struct upgrade_child *child, int listener_fd, struct failure *why);
/* It ends now, and its remains are collected. */
void upgrade_kill(struct upgrade_child *child);
/* It has said that it is ready, as PgDoorman 3.10 does. Does not wait. */
bool upgrade_child_ready(struct upgrade_child *child);
/* Of a child that has ended, as it is collected: its exit status; -1: by a signal, or it cannot be
 * told, since it is another's child (upgrade_spawn.c). */
int upgrade_child_status(struct upgrade_child *child);
void upgrade_child_close(struct upgrade_child *child);
/* Its link is closed. Waits a second for its end, and collects it: true if that was one by a signal
 * or a failure. False as well if it has not ended. */
bool upgrade_child_crashed(struct upgrade_child *child);
/* Its link is closed before it was ready. -1 with the reason: how it ended, if it has. */
int upgrade_child_said_nothing(const struct upgrade_child *child, struct failure *why);

/* --- upgrade_round.c --- */
enum round_result {
    ROUND_NOTHING,    /* nothing can move at this moment; nothing has changed */
    ROUND_MOVED,      /* the successor's now */
    ROUND_FAILED,     /* nothing has changed */
    ROUND_INCOMPLETE, /* the same: somebody cannot move, and the plan aborts then */
    ROUND_RECLAIMED,  /* the successor died before it touched anything; nothing has changed */
    ROUND_LOST,       /* the successor died with it */
};
/* One freeze: all that can move does, or nothing. A failure of the first is the end of the
 * upgrade. */
/* Parts of it: the world stands, and who leaves is chosen; it goes on. */
MUST_CHECK int upgrade_stop(struct upgrade_load *load, enum upgrade_scope scope,
                            struct failure *why);
void upgrade_go_on(struct upgrade_load *load);
/* For upgrade_status_change(), while the world stands: who stays; what has moved. */
void upgrade_count_left(struct upgrade_status *status, void *load);
void upgrade_count_moved(struct upgrade_status *status, void *load);
enum round_result upgrade_round(const struct upgrade_child *child, const struct upgrade_plan *plan,
                                uint64_t generation, uint64_t round, struct failure *why);

/* --- successor.c --- */
/* Are we one? Reads the environment, once, before descriptors are cleaned up; then the link. */
bool successor_wanted(void);
int successor_link(void);
/* Says hello and takes the listeners. Blocking, before there are workers. *local_fd: the Unix
 * socket's, or -1. */
enum greeting {
    GREETED,
    GREETED_NOBODY, /* the predecessor has died: what was inherited is all there is to take over */
    GREETING_FAILED,
};
MUST_CHECK enum greeting successor_greet(int *local_fd, struct failure *why);
/* The rest, on a thread: to be called when all is ready but for clients. took_over() runs on it
 * once, when sessions are this process's, or their old process has died. */
MUST_CHECK int successor_start(void (*took_over)(void), struct failure *why);
/* Tells the service manager, if it has not been told, that this process serves. After the
 * predecessor has named it, or has died and cannot: `unnamed`. */
void successor_announce(bool unnamed);
/* The workers are about to end: its thread, which may wait for the predecessor's end for a while
 * yet, tells no actor anything from now on. */
void successor_finish(void);
/* The one before still has something to hand over. */
bool successor_busy(void);
/* A cancel request for a session that the predecessor may still have. */
void successor_forward_cancel(uint32_t number, struct bytes secret);

#endif
