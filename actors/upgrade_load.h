/* upgrade_load.h: what leaves with one round of an upgrade, on the side that gives it away.
 *
 * All of it while the world stands (runtime/freeze.h).
 */
#ifndef ACTORS_UPGRADE_LOAD_H
#define ACTORS_UPGRADE_LOAD_H

#include "actors/pool.h"
#include "actors/session.h"
#include "actors/state.h"

/* Why something stays for the moment. */
#define UPGRADE_REASONS(X)                                    \
    X(LOGIN, "logging in")                                    \
    X(ENDING, "ending")                                       \
    X(ABANDONED, "its client has gone, the reply is awaited") \
    X(RELEASING, "giving its server connection back")         \
    X(CONSOLE, "a console command is under way")              \
    X(CANCEL, "a cancel request is under way")                \
    X(BUSY, "between two steps")                              \
    X(SENDING, "bytes are being sent")                        \
    X(TRANSACTION, "in a transaction")                        \
    X(STAYS, "on the console")                                \
    X(LOOKED_UP, "its user was looked up")                    \
    X(UNFIT, "too large for the new process")                 \
    X(BACKEND_LOGIN, "server connection logging in")          \
    X(BACKEND_WORK, "server connection being cleaned or checked")
enum upgrade_reason {
    UPGRADE_MOVES,
#define X(name, text) UPGRADE_LEFT_##name,
    UPGRADE_REASONS(X)
#undef X
        UPGRADE_REASON_COUNT
};
const char *upgrade_reason_text(enum upgrade_reason reason);

/* Who may leave at all. */
enum upgrade_scope {
    UPGRADE_EVERYTHING,
    UPGRADE_WITHOUT_BACKENDS, /* clients that hold none; backends stay */
    UPGRADE_RESTING,          /* of these only such as PgDoorman 3.10 can take */
};

struct upgrade_load {
    enum upgrade_scope scope;
    struct session **sessions; /* that move; record n is at n-1 */
    size_t session_count;
    struct backend **backends;
    size_t backend_count;
    struct pool **pools; /* all that there are */
    size_t pool_count;
    struct statement **statements;
    size_t statement_count;
    struct conn **conns; /* of all sessions and backends that could be held */
    size_t conn_count;
    int *fds; /* descriptor n is at n-1 */
    size_t fd_count;
    uint32_t *record_of; /* by actor index: the number of its record; 0: it stays */
    uint32_t record_size;
    uint32_t waiters;
    uint32_t in_transaction;
    uint32_t left[UPGRADE_REASON_COUNT];
    uint32_t sessions_left;
    uint32_t backends_left;
    uint64_t frozen_us; /* clock when the world stopped, */
    uint64_t held_us;   /* when all was taken back, */
    uint64_t served_us; /* when the successor served, as it says; 0: it has not */
};

/* First: all connections at which something may be in flight, to be held. */
void upgrade_load_conns(struct upgrade_load *load);
/* Then, on a worker: who moves and who does not, and why. */
void upgrade_load_choose(struct worker *w, struct upgrade_load *load);
/* The document; the header's generation, round and time are the caller's. */
void upgrade_load_write(struct upgrade_load *load, struct state_writer *out,
                        struct state_header *header);
void upgrade_load_free(struct upgrade_load *load);
/* On a worker, when they are another process's: closes and forgets what moved. */
void upgrade_load_leave(struct worker *w, struct upgrade_load *load);
/* No successor knows anything of this process's counters any more: the next one is told all of
 * them. While no round is under way. */
void upgrade_load_untold(void);

/* What tells whether server connections of a pool could have been opened by this configuration. */
enum { POOL_FINGERPRINT = 32 };
void pool_fingerprint(const struct effective *e, uint8_t out[POOL_FINGERPRINT]);

#endif
