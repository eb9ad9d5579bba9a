#include "auth/hba_rules.h"

/* Who asks. */
struct question {
    const struct hba_peer *peer;
    const char *database;
    const char *user;
};

static bool transport_matches(const struct hba_rule *rule, const struct hba_peer *peer)
{
    switch (rule->transport) {
    case ON_LOCAL: return peer->local;
    case ON_HOST: return !peer->local;
    case ON_HOSTSSL: return !peer->local && peer->tls;
    case ON_HOSTNOSSL: return !peer->local && !peer->tls;
    case ON_NEVER: return false;
    }
    return false;
}

static bool address_matches(const struct hba_rule *rule, const struct hba_peer *peer)
{
    if (peer->local || rule->any_address)
        return true;
    for (size_t i = 0; i < rule->net_count; i++)
        if (hba_net_contains(&rule->nets[i], &peer->address))
            return true;
    return false;
}

/* An expression that could not be run (no memory) must not let a reject be passed over. */
static bool regex_matches(const struct hba_rule *rule, const struct hba_name *name,
                          const char *text)
{
    int result = regexec(&name->regex, text, 0, NULL, 0);

    return result == 0 || (result != REG_NOMATCH && rule->method == RULE_REJECT);
}

static bool names_match(const struct hba_rule *rule, const struct hba_names *names,
                        const char *text, const char *user)
{
    for (size_t i = 0; i < names->count; i++) {
        const struct hba_name *name = &names->items[i];
        bool matches = false;

        switch (name->kind) {
        case NAME_ALL: matches = true; break;
        case NAME_SAMEUSER: matches = strcmp(text, user) == 0; break;
        case NAME_EXACT: matches = strcmp(text, name->text) == 0; break;
        case NAME_REGEX: matches = regex_matches(rule, name, text); break;
        case NAME_NEVER: break;
        }
        if (matches)
            return true;
    }
    return false;
}

static bool rule_matches(const struct hba_rule *rule, const struct question *q)
{
    return transport_matches(rule, q->peer) && address_matches(rule, q->peer) &&
           names_match(rule, &rule->databases, q->database, q->user) &&
           names_match(rule, &rule->users, q->user, q->user);
}

/* The first rule that matches, behind `after` when that is given; NULL: none. */
static const struct hba_rule *next_match(const struct hba *h, const struct hba_rule *after,
                                         const struct question *q)
{
    size_t i = after == NULL ? 0 : (size_t)(after - h->rules) + 1;

    for (; i < h->count; i++)
        if (rule_matches(&h->rules[i], q))
            return &h->rules[i];
    return NULL;
}

static bool is_password_rule(const struct hba_rule *rule)
{
    return rule->method == RULE_MD5 || rule->method == RULE_SCRAM || rule->method == RULE_PASSWORD;
}

/* --- one pass (strict) --- */

/* How a password rule is to be served by this kind of secret. DENY: it cannot be. */
static enum hba_method password_method(enum hba_rule_method rule, enum secret_kind secret)
{
    switch (secret) {
    case SECRET_EMPTY: return HBA_UNUSABLE;
    case SECRET_JWT: return HBA_CLEARTEXT; /* the token comes as a password */
    case SECRET_PLAIN:
        return rule == RULE_MD5 ? HBA_MD5 : rule == RULE_SCRAM ? HBA_SCRAM : HBA_CLEARTEXT;
    case SECRET_MD5:
        return rule == RULE_MD5 ? HBA_MD5 : rule == RULE_SCRAM ? HBA_DENY : HBA_CLEARTEXT;
    case SECRET_SCRAM: return rule == RULE_PASSWORD ? HBA_CLEARTEXT : HBA_SCRAM;
    }
    return HBA_DENY;
}

static enum hba_method strict_method(const struct hba *h, const struct question *q,
                                     enum secret_kind secret)
{
    const struct hba_rule *rule = next_match(h, NULL, q);

    if (rule == NULL)
        return HBA_DENY;
    switch (rule->method) {
    /* A token is checked even where passwords are not. */
    case RULE_TRUST: return secret == SECRET_JWT ? HBA_CLEARTEXT : HBA_TRUST;
    case RULE_JWT: return secret == SECRET_JWT ? HBA_CLEARTEXT : HBA_DENY;
    case RULE_PAM: return secret == SECRET_EMPTY ? HBA_UNUSABLE : HBA_DENY;
    case RULE_REJECT:
    case RULE_PEER:
    case RULE_CERT:
    case RULE_LDAP: return HBA_DENY;
    case RULE_MD5:
    case RULE_SCRAM:
    case RULE_PASSWORD: break;
    }
    for (; rule != NULL && is_password_rule(rule); rule = next_match(h, rule, q)) {
        enum hba_method method = password_method(rule->method, secret);

        if (method != HBA_DENY)
            return method;
    }
    return HBA_DENY; /* never on to a trust: a secret of the wrong kind is not a reason to trust */
}

/* --- two probes (as 3.10) --- */

enum verdict { NOT_MATCHED, ALLOW, TRUST, DENY };
struct probe {
    enum verdict verdict;
    const struct hba_rule *rule; /* that decided */
};

static struct probe probe(const struct hba *h, const struct question *q, enum hba_rule_method type)
{
    for (const struct hba_rule *rule = next_match(h, NULL, q); rule != NULL;
         rule = next_match(h, rule, q)) {
        if (rule->method == RULE_TRUST)
            return (struct probe){TRUST, rule};
        if (rule->method == type)
            return (struct probe){ALLOW, rule};
        if (rule->method == RULE_REJECT)
            return (struct probe){DENY, rule};
    }
    return (struct probe){NOT_MATCHED, NULL};
}

static bool admits(enum verdict v)
{
    return v == ALLOW || v == TRUST;
}

static enum hba_method probed_scram(enum verdict md5, enum verdict scram)
{
    switch (scram) {
    case TRUST: return HBA_TRUST;
    case ALLOW: return HBA_SCRAM;
    case DENY: return HBA_DENY;
    case NOT_MATCHED: break;
    }
    return md5 == TRUST ? HBA_TRUST : md5 == ALLOW ? HBA_SCRAM : HBA_DENY;
}

static enum hba_method probed_method(const struct hba *h, const struct question *q,
                                     enum secret_kind secret)
{
    enum verdict md5 = probe(h, q, RULE_MD5).verdict;
    enum verdict scram = probe(h, q, RULE_SCRAM).verdict;

    if (!admits(md5) && !admits(scram))
        return HBA_DENY;
    switch (secret) {
    case SECRET_SCRAM: return probed_scram(md5, scram);
    case SECRET_MD5: return md5 == TRUST ? HBA_TRUST : md5 == ALLOW ? HBA_MD5 : HBA_DENY;
    case SECRET_EMPTY: return md5 == TRUST || scram == TRUST ? HBA_TRUST : HBA_UNUSABLE;
    case SECRET_JWT: return HBA_CLEARTEXT;
    /* 3.10 has no such secrets: where it would both ask and trust, ask. */
    case SECRET_PLAIN: return scram == ALLOW ? HBA_SCRAM : md5 == ALLOW ? HBA_MD5 : HBA_TRUST;
    }
    return HBA_DENY;
}

/* --- the questions --- */

bool hba_may_enter(const struct hba *h, const struct hba_peer *peer, const char *database,
                   const char *user)
{
    struct question q = {peer, database, user};

    if (!h->strict)
        return admits(probe(h, &q, RULE_MD5).verdict) || admits(probe(h, &q, RULE_SCRAM).verdict);

    const struct hba_rule *rule = next_match(h, NULL, &q);
    return rule != NULL && rule->method != RULE_REJECT;
}

enum hba_method hba_method(const struct hba *h, const struct hba_peer *peer, const char *database,
                           const char *user, enum secret_kind secret)
{
    struct question q = {peer, database, user};

    return h->strict ? strict_method(h, &q, secret) : probed_method(h, &q, secret);
}

static bool names_database(const struct hba_rule *rule, const char *database)
{
    for (size_t i = 0; i < rule->databases.count; i++) {
        const struct hba_name *name = &rule->databases.items[i];

        if (name->kind == NAME_EXACT && strcmp(name->text, database) == 0)
            return true;
    }
    return false;
}

/* A trust rule for everything is meant for databases: the console still asks for the password. */
static enum hba_method console_trust(const struct hba_rule *rule, const struct question *q,
                                     const char *admin_user)
{
    return names_database(rule, q->database) && strcmp(q->user, admin_user) == 0 ? HBA_TRUST
                                                                                 : HBA_MD5;
}

enum hba_method hba_admin_method(const struct hba *h, const struct hba_peer *peer,
                                 const char *database, const char *user, const char *admin_user)
{
    struct question q = {peer, database, user};

    if (!h->strict) {
        struct probe md5 = probe(h, &q, RULE_MD5);
        struct probe scram = probe(h, &q, RULE_SCRAM);

        if (md5.verdict == TRUST || scram.verdict == TRUST)
            return console_trust(md5.verdict == TRUST ? md5.rule : scram.rule, &q, admin_user);
        if (md5.verdict == DENY || scram.verdict == DENY)
            return HBA_DENY;
        return md5.verdict == ALLOW || scram.verdict == ALLOW ? HBA_MD5 : HBA_DENY;
    }

    const struct hba_rule *rule = next_match(h, NULL, &q);
    if (rule == NULL)
        return HBA_DENY;
    switch (rule->method) {
    case RULE_TRUST: return console_trust(rule, &q, admin_user);
    case RULE_MD5: return HBA_MD5;
    case RULE_SCRAM: return HBA_SCRAM;
    case RULE_PASSWORD: return HBA_CLEARTEXT;
    case RULE_REJECT:
    case RULE_PEER:
    case RULE_CERT:
    case RULE_LDAP:
    case RULE_PAM:
    case RULE_JWT: return HBA_DENY;
    }
    return HBA_DENY;
}
