/* Logins at the simulated servers, and requests to cancel. */
#include "tests/simulation/clients.h"
#include "tests/simulation/lookups.h"
#include "tests/simulation/postgres.h"
#include "tests/simulation/processes.h"

#include <stdio.h>

/* --- requests to cancel --- */

static void cancel(uint32_t pid, uint32_t key)
{
    for (struct pg_conn *c = pg_server.conns; c != NULL; c = c->next) {
        if (c->pid != pid || c->key != key)
            continue;
        if (c->phase != PG_BUSY || sim_chance(300)) {
            sim_note("server %u: a signal is sent", pid);
            c->signal_us = sim_now_us();
            return;
        }
        struct pg_tag tag = pg_tag_of(c->running);
        sim_note("server %u: cancel of %s", pid, c->running);
        clients_cancelled(tag.client, tag.query);
        c->cancelled = true;
        pg_statement_done(c);
        return;
    }
    sim_note("server %u: cancel of nothing", pid);
}

/* --- who comes --- */

static const char *own_parameter(const struct parameter *list, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (bytes_equal(list[i].name, bytes_of(name)))
            return (const char *)list[i].value.at;
    }
    return "";
}

/* Those who take the place of old ones are there beside them for a while. */
enum { REPLACEMENTS_MAX = 3 };

/* Those that look users up are counted by nobody, and closed one by one when their settings change.
 */
static void check_executors(unsigned held)
{
    unsigned most = lookups.workers * (1 + lookups.reloads + processes_upgrades() * 2);

    if (held > most)
        sim_fail("%u connections look users up, of %u", held, lookups.workers);
}

static void check_limits(const struct pg_conn *c)
{
    unsigned held = pg_held(c->database, c->user);
    unsigned all = pg_held(c->database, NULL);

    if (c->account->role == ROLE_QUERY) {
        check_executors(held);
        return;
    }
    all -= lookups.any ? pg_held(c->database, "query") : 0;

    /* A pool that was removed ends with its clients, when another may be there already. */
    unsigned pools = 1 + c->account->removed;

    if (c->account->role != ROLE_WRITTEN)
        pools += lookups.reloads;

    /* What was in use at an upgrade is counted anew when it comes back; and what a process had that
     * has just died, servers may not have noticed. */
    pools += processes_upgrades() > 0 ? processes_upgrades() + 1 : 0;

    if (held > pools * plan.pool_size_most + (plan.replaces ? REPLACEMENTS_MAX : 0))
        sim_fail("%u connections for %s@%s, of %u", held, c->user, c->database,
                 plan.pool_size_most);
    if (plan.cap_most > 0 && all > plan.cap_most + plan.reserve)
        sim_fail("%u connections for %s, of %u and %u", all, c->database, plan.cap_most,
                 plan.reserve);
}

static void logged_in(struct pg_conn *c)
{
    static const char *const reported[][2] = {{"server_version", "16.4"},
                                              {"client_encoding", "UTF8"},
                                              {"TimeZone", "UTC"},
                                              {"application_name", "pg_doorman"},
                                              {"standard_conforming_strings", "on"}};
    uint8_t key[4];

    write_authentication(&c->out, 0, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(reported); i++)
        write_parameter_status(&c->out, bytes_of(reported[i][0]), bytes_of(reported[i][1]));
    store_be32(key, c->key);
    write_backend_key_data(&c->out, c->pid, key, sizeof key);
    c->status = 'I';
    pg_ready(c);
}

/* --- proofs --- */

/* What the pooler has must do: it is never asked for what it cannot prove; unless the password has
 * become another one. */
static void not_proven(struct pg_conn *c, const char *what)
{
    if (lookups_outdated(c->account)) {
        lookups.refused = true;
        pg_fatal(c, "28P01", "password authentication failed");
        return;
    }
    sim_fail("server %u: the pooler does not prove to be %s: %s", c->pid, c->user, what);
}

static void ask_for_proof(struct pg_conn *c)
{
    const struct account *account = c->account;

    c->phase = PG_PROVING;
    if (account->role == ROLE_FOUND && !account->found.exists) {
        lookups.refused = true;
        pg_fatal(c, "28000", "role does not exist");
        return;
    }
    switch (account->demanded) {
    case PROOF_NONE: logged_in(c); return;
    case PROOF_MD5:
        store_be32(c->salt, (uint32_t)sim_draw());
        write_authentication(&c->out, 5, c->salt, sizeof c->salt);
        break;
    case PROOF_SCRAM:
        c->scram.verifier = account->verifier;
        write_sasl_mechanisms(&c->out);
        break;
    case PROOF_PASSWORD: sim_fail("no server asks for a password in plain");
    }
    pg_flush(c);
}

static void on_md5(struct pg_conn *c, const uint8_t *body, size_t len)
{
    struct bytes given;
    char stored[MD5_TEXT + 1];
    char wanted[MD5_TEXT + 1];

    md5_stored(stored, c->account->password, c->account->name);
    md5_response(wanted, stored, c->salt);
    if (read_password(body, len, &given) != 0 || !bytes_equal(given, bytes_of(wanted)))
        not_proven(c, "MD5");
    else
        logged_in(c);
}

static void on_scram_first(struct pg_conn *c, const uint8_t *body, size_t len)
{
    struct bytes mechanism;
    struct bytes data;
    uint8_t nonce[18];
    struct failure why;

    for (size_t i = 0; i < sizeof nonce; i++)
        nonce[i] = (uint8_t)sim_draw();
    if (read_sasl_initial(body, len, &mechanism, &data) != 0 ||
        !bytes_equal(mechanism, bytes_of("SCRAM-SHA-256")) ||
        scram_server_first(&c->scram, data, nonce, &why) != SCRAM_OK) {
        not_proven(c, "the beginning of SCRAM");
        return;
    }
    c->challenged = true;
    write_authentication(&c->out, 11, c->scram.server_first, c->scram.server_first_len);
    pg_flush(c);
}

static void on_scram_final(struct pg_conn *c, const uint8_t *body, size_t len)
{
    char final[128];
    struct failure why;

    if (scram_server_final(&c->scram, (struct bytes){body, len}, final, &why) != SCRAM_OK) {
        not_proven(c, "SCRAM");
        return;
    }
    write_authentication(&c->out, 12, final, strlen(final));
    logged_in(c);
}

void pg_proof(struct pg_conn *c, char type, const uint8_t *body, size_t len)
{
    if (type == 'X') {
        sim_far_close(&c->far);
        pg_end(c);
        return;
    }
    if (type != 'p')
        sim_fail("server %u: message %c instead of a proof", c->pid, type);
    if (c->account->demanded == PROOF_MD5)
        on_md5(c, body, len);
    else if (c->challenged)
        on_scram_final(c, body, len);
    else
        on_scram_first(c, body, len);
}

/* --- the first packet --- */

/* Which they are; the server does not take all. */
static bool takes_parameters(struct pg_conn *c, const struct parameter *list, int count)
{
    const char *memory = own_parameter(list, count, "work_mem");
    unsigned overlay = overlay_of(memory);
    char path[16] = "";

    if (overlay != 0 && overlay != OVERLAY_REFUSED)
        snprintf(path, sizeof path, "s%u", overlay);
    if (strcmp(own_parameter(list, count, "search_path"), path) != 0)
        sim_fail("%s comes with one startup parameter only", c->user);
    if (c->account->role == ROLE_FOUND)
        lookups_check_startup(c->account, overlay);
    else if (overlay != 0)
        sim_fail("%s comes with startup parameters", c->user);
    return overlay != OVERLAY_REFUSED;
}

static void refuse_parameter(void *context)
{
    struct pg_conn *c = context;

    if (c->phase == PG_LOGIN)
        pg_fatal(c, "22023", "invalid value for parameter \"work_mem\": \"bad\"");
}

static void login_later(void *context)
{
    struct pg_conn *c = context;

    if (c->phase != PG_LOGIN)
        return;
    bool refused = sim_chance(plan.faults_pm / 4);
    if (pg_server.down || refused)
        clients_trouble();
    if (pg_server.down)
        pg_fatal(c, "57P03", "the database system is shutting down");
    else if (refused)
        pg_fatal(c, "53300", "sorry, too many clients already");
    else
        ask_for_proof(c);
}

void pg_startup(struct pg_conn *c, uint32_t code, const struct frame *f)
{
    struct parameter list[32];
    struct failure why;

    if (code == CODE_CANCEL) {
        c->cancel_request = true;
        cancel(load_be32(f->body), load_be32(f->body + 4));
        sim_far_close(&c->far);
        pg_end(c);
        return;
    }
    if (code != PROTOCOL_3_0)
        sim_fail("a server is asked for protocol %u", code);
    int count = read_startup(f->body, f->body_len, list, COUNT_OF(list), &why);
    if (count < 0)
        sim_fail("a startup packet: %s", why.text);
    snprintf(c->user, sizeof c->user, "%s", own_parameter(list, count, "user"));
    snprintf(c->database, sizeof c->database, "%s", own_parameter(list, count, "database"));
    c->account = account_of(c->user);
    if (c->account == NULL)
        sim_fail("server %u: nobody is called %s", c->pid, c->user);
    check_limits(c);
    c->phase = PG_LOGIN;
    if (!takes_parameters(c, list, count)) {
        sim_at(sim_now_us() + sim_below(3000), refuse_parameter, c);
        return;
    }
    sim_at(sim_now_us() + sim_below(sim_chance(50) ? 2000000 : 3000), login_later, c);
}
