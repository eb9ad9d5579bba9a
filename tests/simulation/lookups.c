#include "tests/simulation/lookups.h"

#include "actors/app.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/processes.h"

#include <stdlib.h>

enum {
    FOUND_MAX = 3,
    OTHERS = 3,
    SLACK_US = 300000,    /* bytes on their way, and actors that are held up */
    SETTLED_US = 1000000, /* so long behind a reload it is in force */
    LONG_US = 20000000,   /* and processes that stand still */
};

struct lookups lookups;
static struct account others[FOUND_MAX + OTHERS]; /* those that are found first */

static unsigned between(unsigned low, unsigned high)
{
    return low + (unsigned)sim_below(high - low + 1);
}

static struct account *nobody(void)
{
    return &others[lookups.users];
}

static struct account *shared(void)
{
    return &others[lookups.users + 1];
}

static struct account *querying(void)
{
    return &others[lookups.users + 2];
}

/* --- what a run has --- */

static void draw_found(struct account *a, unsigned number)
{
    *a = (struct account){.role = ROLE_FOUND};
    snprintf(a->name, sizeof a->name, "d%u", number);
    snprintf(a->password, sizeof a->password, "d%u-%u", number, between(0, 999999));
    account_draw(a, false);
    a->found.exists = !sim_chance(100);
    a->found.ever_told = 1;
    a->found.overlay = sim_chance(500) ? 0 : between(1, OVERLAYS);
    snprintf(a->found.passwords[0], sizeof a->found.passwords[0], "%s", a->password);
    snprintf(a->found.written_password, sizeof a->found.written_password, "w%u-%u", number,
             between(0, 999999));
}

static void draw_other(struct account *a, enum role role, const char *name)
{
    *a = (struct account){.role = role, .kind = SECRET_PLAIN};
    snprintf(a->name, sizeof a->name, "%s", name);
    snprintf(a->password, sizeof a->password, "o%u", between(0, 999999));
    account_store(a);
    a->asked = (enum proof)sim_below(PROOF_SCRAM + 1);
    a->demanded = sim_chance(400) ? PROOF_NONE : sim_chance(500) ? PROOF_MD5 : PROOF_SCRAM;
}

static void draw_times(void)
{
    lookups.ttl_ms = sim_chance(300) ? 3600000 : between(1, sim_chance(500) ? 50 : 1000);
    lookups.failure_ttl_ms = sim_chance(300) ? 30000 : between(1, 200);
    lookups.min_interval_ms = sim_chance(300) ? 1000 : between(0, 50);
    lookups.ttl_most_ms = MAX(lookups.ttl_most_ms, lookups.ttl_ms);
    lookups.failure_ttl_most_ms = MAX(lookups.failure_ttl_most_ms, lookups.failure_ttl_ms);
    lookups.min_interval_most_ms = MAX(lookups.min_interval_most_ms, lookups.min_interval_ms);
}

void lookups_draw(void)
{
    lookups = (struct lookups){.any = sim_chance(350)};
    if (!lookups.any)
        return;
    lookups.configured = true;
    lookups.users = between(1, FOUND_MAX);
    lookups.dedicated = sim_chance(200);
    lookups.workers = between(1, 3);
    lookups.min_pool_size = sim_chance(850) || plan.cap > 0 ? 0 : between(1, plan.pool_size);
    lookups.share_pm = between(200, 1000);
    lookups.nobody_pm = sim_chance(500) ? 0 : between(1, 200);
    lookups.change_pm = sim_chance(300) ? 0 : between(1, 800);
    lookups.collect_pm = sim_chance(400) ? 0 : between(1, 500);
    if (sim_chance(400)) /* pools are empty soon */
        plan.idle_ms = between(1, 50);
    lookups.fault_pm = sim_chance(600) ? 0 : between(1, 200);
    lookups.form = (unsigned)sim_below(4);
    draw_times();
    for (unsigned i = 0; i < lookups.users; i++)
        draw_found(&others[i], i);
    draw_other(nobody(), ROLE_NOBODY, "nobody");
    draw_other(shared(), ROLE_SHARED, "pool");
    draw_other(querying(), ROLE_QUERY, "query");
}

struct account *lookups_account(const char *name)
{
    for (unsigned i = 0; lookups.any && i < lookups.users + OTHERS; i++) {
        if (strcmp(others[i].name, name) == 0)
            return &others[i];
    }
    return NULL;
}

/* --- the configuration --- */

void lookups_write_rules(FILE *file)
{
    for (unsigned i = 0; lookups.any && i <= lookups.users; i++)
        account_write_rule(file, &others[i]);
}

void lookups_write_section(FILE *file)
{
    if (!lookups.configured)
        return;
    fprintf(file,
            "    auth_query:\n      query: \"SELECT * FROM lookup($1)\"\n      user: %s\n"
            "      password: \"%s\"\n      workers: %u\n      pool_size: %u\n",
            querying()->name, querying()->password, lookups.workers, plan.pool_size);
    fprintf(file, "      cache_ttl: %u\n      cache_failure_ttl: %u\n      min_interval: %u\n",
            lookups.ttl_ms, lookups.failure_ttl_ms, lookups.min_interval_ms);
    if (lookups.dedicated)
        fprintf(file, "      server_user: %s\n      server_password: \"%s\"\n", shared()->name,
                shared()->password);
    else if (lookups.min_pool_size > 0)
        fprintf(file, "      min_pool_size: %u\n", MIN(lookups.min_pool_size, plan.pool_size));
}

void lookups_write_users(FILE *file)
{
    for (unsigned i = 0; i < lookups.users; i++) {
        struct account written = others[i];

        if (!written.found.written)
            continue;
        secret_write(written.stored, sizeof written.stored, &written,
                     written.found.written_password);
        snprintf(written.servers, sizeof written.servers, "%s", written.password);
        account_write_user(file, &written);
        fprintf(file, "      pool_size: %u\n", plan.pool_size);
    }
}

void lookups_reloaded(void)
{
    lookups.reloads++;
    lookups.reloaded_us = sim_now_us();
}

/* In an upgrade the new process loads what is there, and the old one has something else. */
void lookups_reconfigure(void)
{
    if (!lookups.any || upheaval.any)
        return;
    if (sim_chance(lookups.configured ? 150 : 700)) {
        lookups.configured = !lookups.configured;
        lookups.removed++;
    }
    if (sim_chance(100)) {
        lookups.dedicated = !lookups.dedicated;
        lookups.removed++;
    }
    if (sim_chance(300)) {
        struct found *found = &others[sim_below(lookups.users)].found;

        found->written = !found->written;
        found->rewrites++;
    }
    if (sim_chance(200))
        draw_times();
}

void lookups_remove(void)
{
    for (unsigned i = 0; i < lookups.users; i++)
        others[i].found.written = false;
    lookups.configured = false;
    lookups.removed++;
    lookups_reloaded();
}

/* Is it a user of the configuration in force? */
static bool in_force(const struct account *a)
{
    if (upheaval.any) /* nobody is written; nor need there be a process that could be asked */
        return false;
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, "db0");
    bool there = pool != NULL && config_user(pool, a->name) != NULL;

    config_unref(config);
    return there;
}

/* --- PostgreSQL --- */

static void change_password(struct account *a)
{
    struct found *found = &a->found;

    if (found->written || found->generation + 1 == GENERATIONS)
        return; /* what is written has the present one, for servers */
    found->generation++;
    found->changed_us[found->generation] = sim_now_us();
    char *password = found->passwords[found->generation];
    snprintf(password, sizeof found->passwords[0], "g%u-%u", found->generation, between(0, 999999));
    memcpy(a->password, password, sizeof a->password);
    account_store(a);
    sim_note("%s has another password", a->name);
}

static void drop_or_create(struct account *a)
{
    a->found.exists = !a->found.exists;
    a->found.unknown_us = sim_now_us();
    if (!a->found.exists)
        a->found.gone_us = sim_now_us();
    sim_note("%s is %s", a->name, a->found.exists ? "created" : "dropped");
}

void lookups_change(void)
{
    struct account *a = &others[sim_below(lookups.users)];

    switch (sim_below(8)) {
    case 0:
        if (sim_chance(500))
            drop_or_create(a);
        return;
    case 1: a->found.overlay = sim_chance(500) ? OVERLAY_REFUSED : OVERLAY_BROKEN; return;
    case 2:
    case 3:
    case 4: a->found.overlay = sim_chance(200) ? 0 : between(1, OVERLAYS); return;
    default: change_password(a);
    }
}

/* What the pooler was last told of it is what it knows, or will know soon. */
static bool is_sure(const struct found *found)
{
    if (lookups.troubled || clients_had_trouble() || found->written || found->told_us == 0)
        return false;
    return lookups.reloads == 0 || found->told_us > lookups.reloaded_us + SETTLED_US;
}

void lookups_check_startup(const struct account *a, unsigned overlay)
{
    const struct found *found = &a->found;

    if ((found->ever_told >> overlay & 1) == 0)
        sim_fail("%s comes with startup parameters %u, which it never had", a->name, overlay);
    uint64_t slack_us = upheaval.any ? LONG_US : SLACK_US;
    if (is_sure(found) && sim_now_us() > found->told_us + slack_us && overlay != found->told)
        sim_fail("%s comes with startup parameters %u, and has had %u since %llu us", a->name,
                 overlay, found->told, (unsigned long long)found->told_us);
}

void lookups_check_known(const struct account *a, unsigned overlay)
{
    const struct found *found = &a->found;

    if (is_sure(found) && !lookups.dedicated && !upheaval.any && overlay != found->told)
        sim_fail("%s is known with startup parameters %u, and has %u", a->name, overlay,
                 found->told);
}

unsigned overlay_of(const char *memory)
{
    return strcmp(memory, "bad") == 0 ? (unsigned)OVERLAY_REFUSED
                                      : (unsigned)strtoul(memory, NULL, 10);
}

bool lookups_outdated(const struct account *a)
{
    return a->found.generation > 0 || a->found.rewrites > 0;
}

/* --- clients --- */

const struct account *lookups_pick(void)
{
    if (!lookups.any || !sim_chance(lookups.share_pm))
        return NULL;
    return sim_chance(lookups.nobody_pm) ? nobody() : &others[sim_below(lookups.users)];
}

void identity_begin(struct identity *identity, const struct account *a)
{
    const struct found *found = &a->found;

    *identity = (struct identity){
        .account = a, .since_us = sim_now_us(), .rewrites = found->rewrites};
    identity->in_force = in_force(a);
    identity->generation = found->generation;
    identity->written = found->rewrites > 0 && sim_chance(found->written ? 600 : 200);
    if (found->generation > 0 && sim_chance(200))
        identity->generation--;
    identity->password = identity->written        ? found->written_password
                         : a->role == ROLE_NOBODY ? a->password
                                                  : found->passwords[identity->generation];
}

void identity_repeat(struct identity *identity)
{
    identity->since_us = sim_now_us();
    identity->rewrites = identity->account->found.rewrites;
    identity->in_force = in_force(identity->account);
}

static uint64_t slack(void)
{
    return upheaval.any ? LONG_US : SLACK_US;
}

/* Has that been in force for so long that the pooler knows it? */
static bool may_be_remembered(uint64_t until_us, const struct identity *identity)
{
    return until_us + lookups.ttl_most_ms * 1000ull + slack() >= identity->since_us;
}

bool identity_may_pass(const struct identity *identity)
{
    const struct account *a = identity->account;
    const struct found *found = &a->found;

    if (a->role == ROLE_NOBODY)
        return false;
    bool now = in_force(a);
    bool rewritten = identity->rewrites != found->rewrites;
    bool known = found->exists || may_be_remembered(found->gone_us, identity);
    if (a->asked == PROOF_NONE)
        return known || now || identity->in_force || rewritten;
    if (identity->written)
        return now || identity->in_force || rewritten;
    if (now && identity->in_force && !rewritten)
        return false;
    return known && (identity->generation == found->generation ||
                     may_be_remembered(found->changed_us[identity->generation + 1], identity));
}

static bool may_be_unknown(const struct identity *identity)
{
    const struct found *found = &identity->account->found;

    return !found->exists || (found->unknown_us != 0 &&
                              found->unknown_us + lookups.failure_ttl_most_ms * 1000ull + slack() >=
                                  identity->since_us);
}

/* The pooler remembers the password before, and may not ask for it again at once. */
static bool may_be_out_of_date(const struct identity *identity)
{
    const struct account *a = identity->account;
    uint64_t changed_us = a->found.changed_us[identity->generation];
    uint64_t asks_again_us = changed_us + lookups.min_interval_most_ms * 1000ull + slack();

    if (changed_us == 0)
        return false;
    if (lookups.troubled || clients_had_trouble())
        return true;
    if (a->asked == PROOF_MD5 && identity->since_us > asks_again_us)
        return false; /* a second query has the new one */
    if (identity->attempts > 0 && identity->refused_us > asks_again_us)
        return false; /* it is asked for since then */
    return may_be_remembered(changed_us, identity);
}

bool identity_is_right(const struct identity *identity)
{
    const struct account *a = identity->account;

    return a->role == ROLE_FOUND && !identity->written &&
           identity->generation == a->found.generation;
}

bool identity_may_fail(const struct identity *identity)
{
    const struct account *a = identity->account;

    if (a->role == ROLE_NOBODY || identity->rewrites != a->found.rewrites)
        return true;
    if (lookups.reloads > 0 && lookups.reloaded_us + SETTLED_US > identity->since_us)
        return true;
    if (identity->in_force || identity->written)
        return identity->in_force != identity->written;
    return !identity_is_right(identity) || may_be_unknown(identity) || may_be_out_of_date(identity);
}
