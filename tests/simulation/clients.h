/* clients.h: simulated clients. Each composes its work by chance, knows what the answers must be,
 * and ends the run when they are not. */
#ifndef SIMULATION_CLIENTS_H
#define SIMULATION_CLIENTS_H

#include "proto/messages.h"
#include "runtime/sim.h"

enum { CLIENTS_MAX = 64, WANTS_MAX = 128 };

struct plan {
    unsigned clients;   /* some more come when others are refused */
    unsigned queries;   /* of each, about */
    unsigned think_us;  /* between them, at most */
    unsigned abort_pm;  /* per mille: a client vanishes instead of going on */
    unsigned leave_pm;  /* per mille: a client vanishes while it waits for an answer */
    unsigned cancel_pm; /* per mille: of queries, to be cancelled */
    unsigned error_pm;  /* per mille: of queries, to fail */
    unsigned slow_pm;   /* per mille: of queries, to take long */
    unsigned wait_ms;   /* query_wait_timeout */
    bool session_mode;
    bool cleanup;       /* cleanup_server_connections */
    bool prepared;      /* the pooler remaps statements */
    unsigned faults_pm; /* per mille: of beats, in which a server has trouble */
    unsigned die_pm;    /* per mille: of those flushes of a server that may: it dies */
    unsigned admin_pm;  /* per mille: of beats, in which the operator does something */
    unsigned users;
    unsigned remove_pm;    /* per mille: of reloads, which take a user out or put it back */
    unsigned shutdown_us;  /* when the operator shuts the pooler down; 0: not at all */
    unsigned memory_bytes; /* max_memory_usage */
    bool memory_short;     /* it may be refused */
    bool draining;         /* that was said */
    bool proofs;           /* with passwords */
    unsigned wrong_pm;     /* per mille: of clients, which do not have the right one */
    unsigned login_ms;     /* client_login_timeout */
    unsigned pool_size;
    unsigned pool_size_most; /* that was ever in force */
    unsigned min_pool_size;
    unsigned cap;      /* max_db_connections; 0: none */
    unsigned cap_most; /* that was ever in force */
    unsigned reserve;
    unsigned reserve_wait_ms;
    unsigned young_ms; /* min_connection_lifetime */
    unsigned lifetime_ms;
    unsigned idle_ms;
    unsigned check_ms; /* server_idle_check_timeout */
    unsigned retain_ms;
    unsigned retain_max;
    unsigned guaranteed; /* min_guaranteed_pool_size */
    bool replaces;       /* backends grow so old that others are opened in their place */
    bool round_robin;
    bool sheds;           /* shed_expected_timeouts */
    uint32_t max_waiters; /* 0: any number */
    bool local;           /* servers at a Unix socket */
};
extern struct plan plan;

/* Lets them come, to these listening descriptors. */
void clients_begin(int listener, int local_listener);
bool clients_done(void);
/* For the server: this statement is run now, and whether it is committed. It may be once. */
void clients_executed(unsigned client, unsigned query);
/* For the server: a cancel request hits a statement of that client. */
void clients_cancelled(unsigned client, unsigned query);
/* It has sent a cancel request, which may strike late: in session mode, on one lease, also what the
 * pooler asks by itself. */
bool clients_has_cancelled(unsigned client);
/* The client of that application name may vanish now, if it waits for an answer. */
void clients_leave(const char *name);
/* A client that waits for an answer for too long ends the run. */
void clients_check(void);
/* Server trouble may have cost a client its session: it is told so, and that is all right. */
void clients_trouble(void);
bool clients_had_trouble(void);

#endif
