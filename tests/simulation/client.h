/* client.h: what the files of the simulated clients share. */
#ifndef SIMULATION_CLIENT_H
#define SIMULATION_CLIENT_H

#include "tests/simulation/accounts.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/lookups.h"

enum { NAMED = 6, MODEL_SETTINGS = 4, EXECUTES_MAX = 4, QUERIES_MAX = 512 };

enum act {
    ACT_NOTHING, /* on the state of the session or its transaction */
    ACT_BEGIN,
    ACT_COMMIT,
    ACT_ROLLBACK,
    ACT_SET,
    ACT_TEMP,
    ACT_PREPARE,
    ACT_INSERT,
    ACT_DISCARD,
};

/* One statement, and what must be answered. */
struct execute {
    unsigned query;
    unsigned rows;
    unsigned size;
    unsigned number;
    unsigned value;
    enum act act;
    const char *tag; /* of CommandComplete; NULL: "SELECT <rows>" */
    bool counted;    /* the tag is followed by a number: size */
    char answer[32]; /* of its single row; "" : rows as the server makes them */
    char other[32];  /* that may be answered as well; "": not */
    bool fails;
    bool may_miss; /* error 26000 is right as well */
};

/* What is sent up to one ReadyForQuery, and the types of the answers: R stands for the rows of the
 * next execute, C for its end, g for what follows a CopyInResponse. */
struct want {
    char expect[64];
    unsigned at;
    struct execute executes[EXECUTES_MAX];
    unsigned count;
    unsigned current;
    unsigned rows_seen;
    bool failed;
    bool copy_extended;
    uint64_t asked_us;
};

struct model {
    int settings[MODEL_SETTINGS];
    uint32_t temp;
    uint32_t prepared;
    int prepared_value[8];
};

struct client {
    struct sim_far far;
    unsigned number;
    enum { CLIENT_AWAY, CLIENT_LOGIN, CLIENT_HERE, CLIENT_GONE } phase;
    uint32_t pid;
    uint8_t key[32];
    size_t key_len;
    const struct account *account;
    struct identity identity; /* when it is not of the configuration */
    bool mocked;              /* asked for what no user of its name could give */
    struct scram_client scram;
    bool wrong;    /* gives a wrong password */
    bool silent;   /* gives none */
    bool admitted; /* AuthenticationOk came */
    bool late;     /* came when the pooler was shutting down */
    bool expected; /* its user was configured when it came */
    unsigned left; /* queries to be made */
    unsigned next_query;
    bool told;    /* FATAL was received */
    bool leaving; /* Terminate was sent */
    bool slow;    /* reads late */
    bool reading; /* a late read is planned */
    unsigned cancels;
    uint8_t *in;
    size_t in_len;
    size_t in_size;
    struct want wants[WANTS_MAX];
    unsigned want_first;
    unsigned want_count;
    struct writer out;

    char status; /* as the answers say */
    struct model now;
    struct model before; /* the transaction */
    bool named[NAMED];   /* parsed */
    uint32_t ever_temp;
    uint8_t executed[QUERIES_MAX];
    uint64_t login_us;
};

extern struct client clients[CLIENTS_MAX];

/* client.c */
struct want *client_want(struct client *c);
struct want *client_oldest(struct client *c);
void client_end(struct client *c);
void client_next(struct client *c);
void client_send(struct client *c);
/* client_work.c: composes the next batch, or several. */
void client_compose(struct client *c);
/* client_login.c: one message of the pooler before the first ReadyForQuery. */
void client_login(struct client *c, char type, const uint8_t *body, size_t len);
/* It comes as another client, with the same password. */
void client_come_again(const struct client *c);
/* The session is over, for this reason: is it one? */
void client_refused(struct client *c, const struct error_fields *e);
/* client_answers.c: one message of the pooler. */
void client_answer(struct client *c, char type, const uint8_t *body, size_t len);

#endif
