/* How a simulated client gets in, and for what reasons it may be turned away. */
#include "tests/simulation/client.h"

#include <stdio.h>

/* Workers read their clocks once per turn. */
enum { CLOCKS_DIFFER_US = 10000 };

/* --- proofs --- */

static const char *password_of(const struct client *c)
{
    if (c->wrong)
        return "not-this-one";
    return c->account->role == ROLE_WRITTEN ? c->account->password : c->identity.password;
}

static void md5(struct client *c, const uint8_t salt[4])
{
    char stored[MD5_TEXT + 1];
    char response[MD5_TEXT + 1];

    md5_stored(stored, password_of(c), c->account->name);
    md5_response(response, stored, salt);
    write_password(&c->out, response);
}

static void scram_begin(struct client *c)
{
    uint8_t random[18];
    char first[128];

    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (uint8_t)sim_draw();
    c->scram = (struct scram_client){.password = password_of(c)};
    scram_client_begin(&c->scram, random, first, sizeof first);
    write_sasl_initial(&c->out, "SCRAM-SHA-256", bytes_of(first));
}

static void scram_answer(struct client *c, struct bytes challenge)
{
    char answer[SCRAM_NONCE_MAX + 256];
    struct failure why;

    if (scram_client_challenge(&c->scram, challenge, answer, sizeof answer, &why) != 0)
        sim_fail("client %u: SCRAM challenge: %s", c->number, why.text);
    write_sasl_response(&c->out, bytes_of(answer));
}

static void scram_end(struct client *c, struct bytes final)
{
    struct failure why;

    if (scram_client_verify(&c->scram, final, &why) != 0)
        sim_fail("client %u: the pooler does not prove itself: %s", c->number, why.text);
}

/* By code of the Authentication message. */
static enum proof asked_for(uint32_t code)
{
    switch (code) {
    case 3: return PROOF_PASSWORD;
    case 5: return PROOF_MD5;
    case 10:
    case 11:
    case 12: return PROOF_SCRAM;
    default: return PROOF_NONE;
    }
}

static void admitted(struct client *c)
{
    bool proven = !c->wrong && !c->silent;

    if (!proven)
        sim_fail("client %u is let in %s", c->number,
                 c->wrong ? "with a wrong password" : "without a password");
    if (c->account->asked == PROOF_SCRAM && !c->scram.proved)
        sim_fail("client %u is let in without a proof", c->number);
    if (c->late)
        sim_fail("client %u is let in, and the pooler is shutting down", c->number);
    bool good = c->account->role == ROLE_WRITTEN ? c->expected || account_in_force(c->account)
                                                 : identity_may_pass(&c->identity);
    if (!good || c->mocked)
        sim_fail("client %u is let in as %s, whom nobody knows, or not so", c->number,
                 c->account->name);
    c->admitted = true;
}

/* One that was taken out of the configuration is looked up, and not found. */
static bool unwritten(const struct client *c)
{
    return lookups.any && c->account->removed > 0;
}

static void on_authentication(struct client *c, const uint8_t *body, size_t len)
{
    uint32_t code = len < 4 ? UINT32_MAX : load_be32(body);
    struct bytes rest = {body + 4, len - MIN(len, 4u)};

    if (code == 0) {
        admitted(c);
        return;
    }
    /* Whoever is not known is asked as PostgreSQL would ask somebody. */
    c->mocked |= (c->account->role != ROLE_WRITTEN || unwritten(c)) &&
                 c->account->asked == PROOF_MD5 && asked_for(code) == PROOF_SCRAM;
    if (asked_for(code) != c->account->asked && !c->mocked)
        sim_fail("client %u is asked for proof %u, of a user with %d", c->number, code,
                 (int)c->account->asked);
    if (c->silent)
        return;
    switch (code) {
    case 3: write_password(&c->out, password_of(c)); break;
    case 5: md5(c, body + 4); break;
    case 10: scram_begin(c); break;
    case 11: scram_answer(c, rest); break;
    case 12: scram_end(c, rest); return;
    default: break;
    }
    client_send(c);
}

/* --- the login --- */

void client_login(struct client *c, char type, const uint8_t *body, size_t len)
{
    switch (type) {
    case 'R': on_authentication(c, body, len); return;
    case 'K':
        c->pid = load_be32(body);
        c->key_len = MIN(len - 4, sizeof c->key);
        memcpy(c->key, body + 4, c->key_len);
        return;
    case 'S':
    case 'N': return;
    case 'Z':
        if (!c->admitted)
            sim_fail("client %u is let in without a word", c->number);
        c->phase = CLIENT_HERE;
        client_next(c);
        return;
    default: sim_fail("client %u gets message %c at its login", c->number, type);
    }
}

/* --- the end --- */

static bool starts(struct bytes text, const char *with)
{
    return text.len >= strlen(with) && memcmp(text.at, with, strlen(with)) == 0;
}

/* A client that does not prove itself is told so, in time, and nobody else is. */
static bool not_let_in(struct client *c, const struct error_fields *e)
{
    bool late = starts(e->sqlstate, "08P01") && !c->admitted &&
                sim_now_us() + CLOCKS_DIFFER_US >= c->login_us + plan.login_ms * 1000ull;

    bool told_wrong = starts(e->sqlstate, "28P01");
    if (told_wrong && !c->wrong && c->account->role != ROLE_WRITTEN &&
        identity_may_fail(&c->identity)) {
        if (identity_is_right(&c->identity))
            client_come_again(c);
        return true;
    }
    if (told_wrong && !c->wrong && !(c->account->role == ROLE_WRITTEN && unwritten(c)))
        sim_fail("client %u gives the right password and is told %.*s", c->number,
                 (int)e->message.len, (const char *)e->message.at);
    return late || told_wrong;
}

static bool had_trouble(void)
{
    return clients_had_trouble() || lookups.refused;
}

/* It could not be found out who it is, or there is no connection for it now; or its startup
 * parameters are no good. */
static bool not_served(const struct client *c, const struct error_fields *e)
{
    const struct found *found = &c->account->found;

    if (c->account->role == ROLE_WRITTEN && !unwritten(c))
        return false;
    bool removed = lookups.removed > 0 || found->rewrites > 0 || c->identity.in_force;
    bool closed = memmem(e->message.at, e->message.len, "Pool has been closed", 20) != NULL;
    if (starts(e->sqlstate, "3D000") || closed)
        return removed;
    if (starts(e->sqlstate, "22023"))
        return (found->ever_told >> OVERLAY_REFUSED & 1) != 0;
    /* The key of the new password is known when a client has proved it. */
    if (found->generation > 0 && starts(e->sqlstate, "53300"))
        return true;
    return starts(e->sqlstate, "58000") &&
           (lookups.troubled || had_trouble() || removed || found->generation > 0 ||
            plan.max_waiters > 0 || plan.sheds);
}

/* The pooler is shut down, or has no memory; or the user was taken out of the configuration. */
static bool sent_away(const struct client *c, const struct error_fields *e)
{
    bool closed = memmem(e->message.at, e->message.len, "Pool has been closed", 20) != NULL;

    return (plan.draining && starts(e->sqlstate, "58006")) ||
           (plan.memory_short && starts(e->sqlstate, "53200")) ||
           (c->account->removed > 0 && (closed || starts(e->sqlstate, "3D000")));
}

/* It came when too many were waiting already. In a login it has other words. */
static bool shed(const struct client *c, const struct error_fields *e)
{
    struct bytes text = e->message;

    if (c->phase == CLIENT_LOGIN)
        return (plan.max_waiters > 0 || plan.sheds) && starts(e->sqlstate, "3D000");
    return (plan.max_waiters > 0 && memmem(text.at, text.len, "(max_waiters)", 13) != NULL) ||
           (plan.sheds && memmem(text.at, text.len, "(shed_expected_timeouts)", 24) != NULL);
}

/* The session is over. For what reasons may it be? */
void client_refused(struct client *c, const struct error_fields *e)
{
    const struct want *want = client_oldest(c);
    uint64_t asked_us = want != NULL ? want->asked_us : c->login_us;
    /* In a login it has other words, which others have too. */
    bool timeout = memmem(e->message.at, e->message.len, "query_wait_timeout", 18) != NULL ||
                   (c->phase == CLIENT_LOGIN && !had_trouble() && plan.cap_most == 0);

    sim_note("client %u is told %.*s: %.*s", c->number, (int)e->sqlstate.len,
             (const char *)e->sqlstate.at, (int)e->message.len, (const char *)e->message.at);
    c->told = true;
    if (not_let_in(c, e) || sent_away(c, e) || shed(c, e) || not_served(c, e))
        return;
    if (timeout && sim_now_us() + CLOCKS_DIFFER_US < asked_us + plan.wait_ms * 1000)
        sim_fail("client %u waited for %llu us only, and is told of a timeout", c->number,
                 (unsigned long long)(sim_now_us() - asked_us));
    if (timeout)
        return;
    bool capped = memmem(e->message.at, e->message.len, "all server connections", 22) != NULL;
    if (plan.cap_most > 0 && (capped || c->phase == CLIENT_LOGIN))
        return;
    /* It was late, and struck what gives the client its settings back in a lease that goes on. */
    if (starts(e->sqlstate, "57014") && c->cancels > 0 && plan.session_mode)
        return;
    static const char *const in_trouble[] = {"08006", "57P01", "53300", "53000", "58006",
                                             "3D000", "08P01", "28000", "57P03"};
    for (size_t i = 0; i < COUNT_OF(in_trouble); i++) {
        if (starts(e->sqlstate, in_trouble[i]) && had_trouble())
            return;
    }
    sim_fail("client %u is told off without a reason: %.*s %.*s", c->number, (int)e->sqlstate.len,
             (const char *)e->sqlstate.at, (int)e->message.len, (const char *)e->message.at);
}
