/* accounts.h: who the users of a run are: the password, how the configuration writes it, what the
 * pooler asks of clients and what the servers ask of the pooler. */
#ifndef SIMULATION_ACCOUNTS_H
#define SIMULATION_ACCOUNTS_H

#include "auth/scram.h"

#include <stdio.h>

enum { ACCOUNTS_MAX = 4 };

enum proof { PROOF_NONE, PROOF_PASSWORD, PROOF_MD5, PROOF_SCRAM };

struct account {
    char name[16];
    char password[32];
    char stored[256];               /* in the configuration; "" : none */
    char servers[32];               /* server_password; "" : what the client has is passed on */
    enum proof asked;               /* by the pooler */
    enum proof demanded;            /* by the servers */
    struct scram_verifier verifier; /* the servers' */
    bool absent;                    /* not in the configuration as it was last written */
    unsigned removed;               /* how often it was taken out */
};

extern struct account accounts[ACCOUNTS_MAX];

/* proofs: with passwords; else nobody is asked for any. */
void accounts_draw(unsigned count, bool proofs);
struct account *account_of(const char *name);
/* Takes one out of the configuration, or puts it back; never the last one out. */
void accounts_change(void);
/* Is it in the configuration in force? */
bool account_in_force(const struct account *account);
/* Lines of pg_hba, and the settings of that user. */
void account_write_rules(FILE *file);
void account_write_user(FILE *file, const struct account *account);

#endif
