/* postgres.h: simulated PostgreSQL servers: enough of the protocol and of SQL to tell whether
 * transactions and session state are right.
 *
 * A statement carries what is to be done and whose it is in a comment:
 *     SELECT 1 (comment: c7 q31 rows=2 size=100 us=500)
 * c is the client, q the number of its query. So the server knows for whom it works, which the
 * pooler does not tell it, and notices on the spot when something of one client is met by another.
 * What runs under extended protocol has the comment of its text, and the pair (c, q) in a
 * parameter.
 */
#ifndef SIMULATION_POSTGRES_H
#define SIMULATION_POSTGRES_H

#include "proto/messages.h"
#include "runtime/sim.h"
#include "tests/simulation/accounts.h"

enum { SETTINGS = 4, NAMES = 8, PREPARED_MAX = 64 };

/* What a transaction may change and a rollback brings back. */
struct pg_state {
    int settings[SETTINGS]; /* 0: the default */
    int role;
    unsigned application; /* its name is that of this client; 0: the default */
    uint32_t temp;        /* tables, by number */
    uint32_t listens;
    uint32_t cursors; /* WITH HOLD */
};

struct pg_prepared {
    char name[64];
    char text[256];
    bool by_sql; /* PREPARE */
};

/* One query, as its comment describes it. */
struct pg_tag {
    unsigned client; /* 0: not a client's */
    unsigned query;
    unsigned rows;
    unsigned size;
    unsigned us;
    unsigned number; /* of the setting, table, statement */
    unsigned value;
    bool fails;
};

struct pg_conn {
    struct sim_far far;
    struct pg_server *server;
    struct pg_conn *next;
    uint32_t pid;
    uint32_t key;
    char user[32];
    char database[32];
    enum { PG_STARTUP, PG_LOGIN, PG_PROVING, PG_READY, PG_BUSY, PG_ENDED } phase;
    bool cancel_request;
    const struct account *account;
    struct scram_server scram;
    bool challenged; /* SCRAM has begun */
    bool breaking;   /* it has died, in the middle of what it wrote */
    uint8_t salt[4];
    uint8_t *in;
    size_t in_len;
    size_t in_size;
    struct writer out;

    char status;
    struct pg_state now;
    struct pg_state before; /* the transaction */
    struct pg_state local;  /* behind it, without SET LOCAL */
    uint32_t locks;         /* session-level advisory locks */
    struct pg_prepared prepared[PREPARED_MAX];
    char portal[400]; /* text of the unnamed portal */
    unsigned portal_client;
    unsigned portal_query;
    bool skipping; /* to Sync */
    bool copy_in;
    bool copy_extended;
    bool implicit; /* extended messages since the last Sync */
    unsigned copy_rows;
    struct pg_tag copy_tag;

    unsigned owner;     /* the client it last worked for */
    unsigned tx_owner;  /* whose transaction is open; 0: nobody has identified itself */
    bool erred;         /* the statement */
    bool cancelled;     /* the running statement */
    uint64_t signal_us; /* a signal to cancel is on its way to the process since then; 0: none */
    uint64_t busy;      /* number of the timer that ends the statement */
    char rest[1024];    /* of a Query: statements yet to be run */
    char running[1024];
    bool running_extended;
    unsigned statements;
};

struct pg_server {
    bool down; /* refuses connections */
    uint32_t pids;
    struct pg_conn *conns;
};
extern struct pg_server pg_server;

/* Begins to listen, at 127.0.0.1:5432 and at the Unix socket /sim/.s.PGSQL.5432. */
void pg_begin(void);
/* How many connections of that database (and user, unless NULL) the pooler holds. */
unsigned pg_held(const char *database, const char *user);
/* Ends one connection, or breaks it. */
void pg_kill_one(bool politely);
/* --- between the files --- */
/* postgres_login.c: the first packet; then messages in phase PROVING. */
void pg_startup(struct pg_conn *c, uint32_t code, const struct frame *f);
void pg_proof(struct pg_conn *c, char type, const uint8_t *body, size_t len);
void pg_run_query(struct pg_conn *c, const char *text, size_t len);
void pg_message(struct pg_conn *c, char type, const uint8_t *body, size_t len);
void pg_flush(struct pg_conn *c);
void pg_end(struct pg_conn *c);
void pg_fatal(struct pg_conn *c, const char *sqlstate, const char *text);
void pg_proceed(struct pg_conn *c); /* with what is in the input */
void pg_error(struct pg_conn *c, const char *sqlstate, const char *text);
void pg_ready(struct pg_conn *c);
/* postgres_lookup.c: a message to a connection of auth_query. */
void pg_lookup(struct pg_conn *c, char type, const uint8_t *body, size_t len);
/* Executes one statement. False: it takes time, or copies, and goes on by itself. */
bool pg_execute(struct pg_conn *c, const char *text, const struct pg_tag *given, bool extended);
void pg_statement_done(struct pg_conn *c);
struct pg_tag pg_tag_of(const char *text);
/* The connection is about to work for that client: is it clean? */
void pg_check_owner(struct pg_conn *c, unsigned client);
void pg_commit(struct pg_conn *c);
void pg_rollback(struct pg_conn *c);

#endif
