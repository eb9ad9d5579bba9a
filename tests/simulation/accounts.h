/* accounts.h: who the users of a run are: the password, how the configuration writes it, what the
 * pooler asks of clients and what the servers ask of the pooler. */
#ifndef SIMULATION_ACCOUNTS_H
#define SIMULATION_ACCOUNTS_H

#include "auth/scram.h"

#include <stdio.h>

enum { ACCOUNTS_MAX = 4, GENERATIONS = 8 };

enum proof { PROOF_NONE, PROOF_PASSWORD, PROOF_MD5, PROOF_SCRAM };

enum role {
    ROLE_WRITTEN, /* in the configuration */
    ROLE_FOUND,   /* by auth_query */
    ROLE_NOBODY,  /* nor by that */
    ROLE_SHARED,  /* auth_query.server_user */
    ROLE_QUERY,   /* auth_query.user */
};

/* What PostgreSQL has of one whom auth_query finds changes in the course of a run. */
struct found {
    bool exists;                      /* PostgreSQL knows it */
    uint64_t gone_us;                 /* when it was last dropped; 0: never */
    uint64_t unknown_us;              /* when there was last said to be no such user; 0: never */
    unsigned generation;              /* of the password */
    uint64_t changed_us[GENERATIONS]; /* when it began; 0: before the run */
    char passwords[GENERATIONS][32];
    unsigned overlay; /* of startup parameters */
    unsigned told;    /* the last that the pooler was told of */
    uint64_t told_us; /* 0: of none */
    uint32_t ever_told;
    bool written;      /* it is a user of the configuration as well, as last written */
    unsigned rewrites; /* how often that changed */
    char written_password[32];
};

struct account {
    char name[16];
    enum role role;
    enum secret_kind kind; /* of what is stored */
    char password[32];
    char stored[256];               /* in the configuration; "" : none */
    char servers[32];               /* server_password; "" : what the client has is passed on */
    enum proof asked;               /* by the pooler */
    enum proof demanded;            /* by the servers */
    struct scram_verifier verifier; /* the servers' */
    bool absent;                    /* not in the configuration as it was last written */
    unsigned removed;               /* how often it was taken out */
    struct found found;             /* ROLE_FOUND */
};

extern struct account accounts[ACCOUNTS_MAX];

/* proofs: with passwords; else nobody is asked for any. */
void accounts_draw(unsigned count, bool proofs);
/* Has the password, a secret made of it, and ways to prove it that work with that. own: backends
 * have a password besides. */
void account_draw(struct account *a, bool own);
/* `stored` and the verifier, when there is another password. */
void account_store(struct account *a);
/* A secret of that kind, as the configuration or pg_authid has it. */
void secret_write(char *out, size_t size, const struct account *a, const char *password);
/* Of all kinds; NULL: nobody is called that. */
struct account *account_of(const char *name);
/* Takes one out of the configuration, or puts it back; never the last one out. */
void accounts_change(void);
/* Is it in the configuration in force? */
bool account_in_force(const struct account *account);
/* Lines of pg_hba: for all, and for one. */
void account_write_rules(FILE *file);
void account_write_rule(FILE *file, const struct account *account);
/* The settings of that user. */
void account_write_user(FILE *file, const struct account *account);

#endif
