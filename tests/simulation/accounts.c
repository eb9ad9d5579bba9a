#include "tests/simulation/accounts.h"

#include "actors/app.h"
#include "auth/scram_keys.h"
#include "runtime/sim.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/lookups.h"

enum { SALT = 12, ITERATIONS = 3 /* the arithmetic is the same, and seeds are many */ };

struct account accounts[ACCOUNTS_MAX];
static unsigned accounts_count;

static const char *const methods[] = {"trust", "password", "md5", "scram-sha-256"};

/* As PostgreSQL writes it into pg_authid. */
static void store_scram(char *out, size_t size, const struct scram_verifier *v)
{
    char salt[SCRAM_SALT_MAX * 2];
    char stored[SCRAM_KEY * 2];
    char server[SCRAM_KEY * 2];

    base64_encode(salt, v->salt, v->salt_len);
    base64_encode(stored, v->stored_key, SCRAM_KEY);
    base64_encode(server, v->server_key, SCRAM_KEY);
    int len = snprintf(out, size, "SCRAM-SHA-256$%u:%s$%s:%s", v->iterations, salt, stored, server);
    INVARIANT(len > 0 && (size_t)len < size);
}

static enum proof one_of(enum proof a, enum proof b, enum proof c)
{
    const enum proof all[] = {a, b, c};

    return all[sim_below(COUNT_OF(all))];
}

static void verifier_draw(struct scram_verifier *out, const char *password)
{
    uint8_t salt[SALT];

    for (size_t at = 0; at < sizeof salt; at++)
        salt[at] = (uint8_t)sim_draw();
    scram_verifier_derive(out, password, salt, sizeof salt, ITERATIONS);
}

void secret_write(char *out, size_t size, const struct account *a, const char *password)
{
    struct scram_verifier verifier;
    char md5[MD5_TEXT + 1];

    switch (a->kind) {
    case SECRET_MD5:
        md5_stored(md5, password, a->name);
        snprintf(out, size, "%s", md5);
        return;
    case SECRET_SCRAM:
        verifier_draw(&verifier, password);
        store_scram(out, size, &verifier);
        return;
    default: snprintf(out, size, "%s", password);
    }
}

void account_store(struct account *a)
{
    verifier_draw(&a->verifier, a->password);
    if (a->kind == SECRET_SCRAM) /* the same verifier on both sides */
        store_scram(a->stored, sizeof a->stored, &a->verifier);
    else
        secret_write(a->stored, sizeof a->stored, a, a->password);
}

/* Only what can work: what the configuration has must do for both sides. */
void account_draw(struct account *a, bool own)
{
    static const enum secret_kind kinds[] = {SECRET_PLAIN, SECRET_MD5, SECRET_SCRAM};

    a->kind = kinds[sim_below(COUNT_OF(kinds))];
    account_store(a);
    switch (a->kind) {
    case SECRET_PLAIN:
        a->asked = sim_chance(200) ? PROOF_NONE : one_of(PROOF_PASSWORD, PROOF_MD5, PROOF_SCRAM);
        a->demanded = one_of(PROOF_NONE, PROOF_MD5, PROOF_SCRAM);
        break;
    case SECRET_MD5:
        a->asked = one_of(PROOF_NONE, PROOF_PASSWORD, PROOF_MD5);
        a->demanded = own ? PROOF_SCRAM : one_of(PROOF_NONE, PROOF_MD5, PROOF_MD5);
        break;
    default: /* the pooler knows no password: it learns its key from the first client */
        a->asked = sim_chance(300) ? PROOF_PASSWORD : PROOF_SCRAM;
        a->demanded = own ? PROOF_MD5 : one_of(PROOF_NONE, PROOF_SCRAM, PROOF_SCRAM);
    }
    if (own)
        snprintf(a->servers, sizeof a->servers, "%s", a->password);
}

void accounts_draw(unsigned count, bool proofs)
{
    INVARIANT(count <= ACCOUNTS_MAX);
    accounts_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct account *a = &accounts[i];

        *a = (struct account){.asked = PROOF_NONE};
        snprintf(a->name, sizeof a->name, "u%u", i);
        if (!proofs)
            continue;
        snprintf(a->password, sizeof a->password, "p%u-%llu", i,
                 (unsigned long long)sim_below(1000000));
        account_draw(a, sim_chance(200));
    }
}

struct account *account_of(const char *name)
{
    for (unsigned i = 0; i < accounts_count; i++) {
        if (strcmp(accounts[i].name, name) == 0)
            return &accounts[i];
    }
    return lookups_account(name);
}

void accounts_change(void)
{
    struct account *a = &accounts[sim_below(accounts_count)];
    unsigned there = 0;

    for (unsigned i = 0; i < accounts_count; i++)
        there += !accounts[i].absent;
    if (!a->absent && there == 1)
        return;
    a->absent = !a->absent;
    a->removed += a->absent;
}

bool account_in_force(const struct account *account)
{
    if (plan.remove_pm == 0)
        return true; /* nor need there be a process that could be asked */
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, "db0");
    bool there = pool != NULL && config_user(pool, account->name) != NULL;

    config_unref(config);
    return there;
}

void account_write_rule(FILE *file, const struct account *account)
{
    const char *method = methods[account->asked];

    fprintf(file, "    host all %s 0.0.0.0/0 %s\n    local all %s %s\n", account->name, method,
            account->name, method);
}

void account_write_rules(FILE *file)
{
    for (unsigned i = 0; i < accounts_count; i++)
        account_write_rule(file, &accounts[i]);
}

void account_write_user(FILE *file, const struct account *account)
{
    fprintf(file, "    - username: %s\n      password: \"%s\"\n", account->name, account->stored);
    if (account->servers[0] != '\0')
        fprintf(file, "      server_username: %s\n      server_password: \"%s\"\n", account->name,
                account->servers);
}
