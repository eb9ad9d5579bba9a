/* hba_rules.h: rules as the parser leaves them and the matcher asks them. For auth/hba*.c only. */
#ifndef AUTH_HBA_RULES_H
#define AUTH_HBA_RULES_H

#include "auth/hba.h"

#include <regex.h>
#include <stdatomic.h>

enum hba_transport { ON_LOCAL, ON_HOST, ON_HOSTSSL, ON_HOSTNOSSL, ON_NEVER };

enum hba_name_kind { NAME_ALL, NAME_SAMEUSER, NAME_EXACT, NAME_REGEX, NAME_NEVER };
struct hba_name {
    enum hba_name_kind kind;
    char *text; /* of NAME_EXACT; owned */
    regex_t regex;
};
struct hba_names {
    struct hba_name *items;
    size_t count;
};

struct hba_net {
    uint8_t address[16]; /* host bits are zero */
    uint8_t len;         /* 4 or 16 */
    uint8_t prefix_bits;
};

enum hba_rule_method {
    RULE_TRUST,
    RULE_REJECT,
    RULE_MD5,
    RULE_SCRAM,
    RULE_PASSWORD,
    RULE_PEER,
    RULE_CERT,
    RULE_LDAP,
    RULE_PAM,
    RULE_JWT,
};

struct hba_rule {
    enum hba_transport transport;
    struct hba_names databases;
    struct hba_names users;
    bool any_address;
    struct hba_net *nets;
    size_t net_count;
    enum hba_rule_method method;
    char *text; /* as written, without comment */
};

struct hba {
    atomic_uint references;
    bool strict;
    struct hba_rule *rules;
    size_t count;
};

/* --- fields of a line --- */
enum { HBA_ITEMS_MAX = 256 };
struct hba_token {
    char *text;  /* lies in the line */
    bool quoted; /* began with a quote: no keyword */
};
struct hba_field {
    struct hba_token items[HBA_ITEMS_MAX];
    size_t count;
};
/* Reads the next field (a list of items parted by commas) and moves *at behind it; rewrites the
 * line in place. 1: a field. 0: the line, or what is not its comment, is at its end. */
MUST_CHECK int hba_next_field(char **at, struct hba_field *out, struct failure *why);

/* --- addresses --- */
/* "ip/bits" or a bare "ip"; *bare tells which. IPv4-mapped networks become IPv4. */
MUST_CHECK int hba_net_parse(struct hba_net *out, const char *text, bool *bare,
                             struct failure *why);
/* Narrows a bare address by a mask in dotted or colon form. 1: text is no address at all. */
MUST_CHECK int hba_net_mask(struct hba_net *net, const char *mask, struct failure *why);
bool hba_net_contains(const struct hba_net *net, const struct sockaddr_storage *peer);
/* The addresses (samehost) or networks (samenet) of this machine, appended to the rule. */
MUST_CHECK int hba_nets_of_machine(struct hba_rule *rule, bool whole_net, struct failure *why);
MUST_CHECK int hba_rule_add_net(struct hba_rule *rule, const struct hba_net *net,
                                struct failure *why);

/* --- rules --- */
MUST_CHECK int hba_rule_parse(struct hba_rule *out, char *line, struct failure *why);
void hba_rule_free(struct hba_rule *rule);
struct hba *hba_new(bool strict);
/* Takes over what the rule owns, also on failure. */
MUST_CHECK int hba_add(struct hba *h, struct hba_rule *rule, struct failure *why);

#endif
