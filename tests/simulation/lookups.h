/* lookups.h: users whom auth_query finds: what a run has of them, what becomes of them meanwhile,
 * and who may be let in as one of them. */
#ifndef SIMULATION_LOOKUPS_H
#define SIMULATION_LOOKUPS_H

#include "tests/simulation/accounts.h"

/* Of startup parameters: 0 for none, numbers, and what PostgreSQL or the pooler does not take. */
enum { OVERLAYS = 20, OVERLAY_REFUSED, OVERLAY_BROKEN };

struct lookups {
    bool any;        /* this run has auth_query */
    bool configured; /* the configuration as last written has it */
    bool dedicated;  /* with server_user */
    unsigned users;  /* whom it finds */
    unsigned workers;
    unsigned ttl_ms;
    unsigned failure_ttl_ms;
    unsigned min_interval_ms;
    unsigned min_pool_size;
    unsigned share_pm;   /* per mille: of clients, who come as one of them */
    unsigned nobody_pm;  /* per mille: of those, who are nobody */
    unsigned change_pm;  /* per mille: of beats, in which PostgreSQL's administrator changes one */
    unsigned collect_pm; /* per mille: of beats, in which empty pools are given up */
    unsigned fault_pm;   /* per mille: of queries, which go wrong */
    unsigned form;       /* of the result */
    /* So far: */
    unsigned ttl_most_ms;
    unsigned failure_ttl_most_ms;
    unsigned min_interval_most_ms;
    unsigned removed;     /* how often the section was taken out, or had another mode */
    unsigned reloads;     /* of whatever kind */
    uint64_t reloaded_us; /* the last of them; 0: none */
    bool troubled;        /* a query has gone wrong */
    bool refused;         /* a server has refused what was right a while ago */
};
extern struct lookups lookups;

/* What a client says it is, and when. */
struct identity {
    const struct account *account;
    bool written;         /* it has the password of the configuration */
    unsigned generation;  /* or that of PostgreSQL, this one */
    bool in_force;        /* the configuration has that user */
    unsigned rewrites;    /* as they were */
    unsigned attempts;    /* before this */
    uint64_t since_us;    /* it came */
    uint64_t refused_us;  /* for the first time, with the same password */
    const char *password; /* lives as long as the account */
};

void lookups_draw(void);
/* Of that name; NULL: it is none of them. */
struct account *lookups_account(const char *name);

/* --- the configuration --- */
void lookups_write_rules(FILE *file);
void lookups_write_section(FILE *file);
void lookups_write_users(FILE *file);
/* The operator changes some of it; the configuration is to be written and loaded. */
void lookups_reconfigure(void);
/* It is written and loaded for whatever reason. */
void lookups_reloaded(void);
/* It is taken out for good. */
void lookups_remove(void);

/* --- PostgreSQL --- */
/* Something of one of them becomes another. */
void lookups_change(void);
/* A new connection has these startup parameters. */
void lookups_check_startup(const struct account *a, unsigned overlay);
/* It is known with these, and nothing is under way. */
void lookups_check_known(const struct account *a, unsigned overlay);
/* A value of work_mem as a number. */
unsigned overlay_of(const char *memory);
/* May it have come with what was right a while ago? */
bool lookups_outdated(const struct account *a);

/* --- clients --- */
/* One of them, or none. */
const struct account *lookups_pick(void);
/* It knows the password, or an old one. */
void identity_begin(struct identity *identity, const struct account *a);
/* It comes once more with the same. */
void identity_repeat(struct identity *identity);
/* May it be let in? With what it gives, as what it is. */
bool identity_may_pass(const struct identity *identity);
/* May it be told that its password is wrong? */
bool identity_may_fail(const struct identity *identity);
/* Is it worth another attempt? */
bool identity_is_right(const struct identity *identity);

#endif
