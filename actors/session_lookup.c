/* A client whose user is not written down: auth_query finds out who that is. */
#define LOG_MODULE "pg_doorman::auth::auth_query"
#include "actors/session_login.h"

#include "actors/auth_query.h"
#include "actors/pool.h"
#include "runtime/log.h"

#include <stdio.h>

/* --- asking --- */

/* True: the answer is there. */
static bool ask(struct worker *w, struct session *s, enum lookup_outcome *outcome)
{
    struct session_login *l = s->login;
    struct message request = {0};
    struct message reply = {0};
    struct msg_AUTH_LOOKUP want = {
        .ticket = ++l->lookup, .again = l->again, .user = bytes_of(session_user(s))};

    *outcome = LOOKUP_FAILED;
    session_go(s, SESSION_LOOKUP);
    message_put_AUTH_LOOKUP(&request, &want);
    enum ask_result result = actor_ask(w, &s->actor, atomic_load(&l->found->actor), &request,
                                       &reply);
    if (result == ASK_ANSWERED)
        *outcome = (enum lookup_outcome)message_get_AUTH_ANSWER(&reply).outcome;
    message_drop_body(&request);
    return result != ASK_QUEUED;
}

static void unavailable(struct worker *w, struct session *s)
{
    session_fatal(w, s, "58000", "Authentication service unavailable. Please try again later.",
                  true);
}

/* True: no proof is needed. */
static bool found(struct worker *w, struct session *s)
{
    struct hba_peer peer = session_peer(s);

    s->shared = directory_find(session_database(s), session_user(s));
    INVARIANT(s->shared != NULL); /* that is where the secret was put */
    return session_auth_start(w, s, &peer);
}

static void unknown(struct worker *w, struct session *s)
{
    struct hba_peer peer = session_peer(s);

    log_warn("[%s@%s] auth_query: user not found", session_user(s), session_database(s));
    s->login->mock = true;
    if (!s->login->config->general.auth_mock || !session_auth_mock(w, s, &peer))
        session_lookup_refused(w, s, "no such user");
}

/* After a wrong answer to the MD5 challenge. True: it is right after all. */
static bool found_again(struct worker *w, struct session *s)
{
    struct pool_shared *shared = s->shared;

    pthread_mutex_lock(&shared->lock);
    bool scram = shared->secret_kind == SECRET_SCRAM;
    pthread_mutex_unlock(&shared->lock);
    if (scram) {
        log_warn("[%s@%s] auth_query: refetched verifier changed type (md5 → scram); cache "
                 "invalidated, client must reconnect with the new mechanism",
                 session_user(s), session_database(s));
    } else if (session_auth_response_fits(s)) {
        log_info("[%s@%s] auth_query: re-fetched password matched", session_user(s),
                 session_database(s));
        return true;
    }
    session_lookup_refused(w, s,
                           "MD5 authentication failed (refetch did not match or was rate-limited)");
    return false;
}

/* True: the client is who it says, or need not prove it. */
static bool answered(struct worker *w, struct session *s, enum lookup_outcome outcome)
{
    if (s->migrated) {
        session_migrated_found(w, s, outcome);
        return false;
    }
    if (s->login->again) /* limited: somebody else's query may have brought what is new */
        return found_again(w, s);
    switch (outcome) {
    case LOOKUP_FOUND: return found(w, s);
    case LOOKUP_UNKNOWN: unknown(w, s); break;
    case LOOKUP_FAILED:
    case LOOKUP_LIMITED: unavailable(w, s); break;
    }
    return false;
}

void session_lookup(struct worker *w, struct session *s, struct auth_query_state *state)
{
    enum lookup_outcome outcome;

    s->login->found = state;
    if (ask(w, s, &outcome) && answered(w, s, outcome))
        session_authenticated(w, s);
}

bool session_lookup_again(struct worker *w, struct session *s)
{
    enum lookup_outcome outcome;

    s->login->again = true;
    return ask(w, s, &outcome) && answered(w, s, outcome);
}

void session_lookup_answered(struct worker *w, struct session *s, const struct message *m)
{
    struct msg_AUTH_ANSWER answer = message_get_AUTH_ANSWER(m);

    if (s->phase == SESSION_LOOKUP && answer.ticket == s->login->lookup &&
        answered(w, s, (enum lookup_outcome)answer.outcome))
        session_authenticated(w, s);
}

/* --- what becomes of it --- */

static void distrust(struct worker *w, struct session *s)
{
    actor_tell(w, atomic_load(&s->login->found->actor),
               MESSAGE(AUTH_DISTRUST, .user = bytes_of(session_user(s))));
}

void session_lookup_refused(struct worker *w, struct session *s, const char *why)
{
    char text[256];

    atomic_fetch_add(&s->login->found->counters.failure, 1);
    log_warn("[%s@%s] auth_query: %s, client %s", session_user(s), session_database(s), why,
             session_address(s));
    if (!s->login->mock && !s->login->again)
        distrust(w, s);
    snprintf(text, sizeof text, "password authentication failed for user \"%s\"", session_user(s));
    session_fatal(w, s, "28P01", text, false);
}

/* All who are found use one role. */
static bool admit_to_shared(struct worker *w, struct session *s, const char *server_user)
{
    struct pool_shared *shared = directory_find(session_database(s), server_user);

    if (shared == NULL || atomic_load(&shared->pool) == 0) {
        session_fatal(w, s, "58000", "Internal pool configuration error.", true);
        return false;
    }
    log_info("[%s@%s] auth_query: authenticated, using shared pool '%s@%s'", session_user(s),
             session_database(s), server_user, session_database(s));
    s->shared = shared;
    session_rename(s, server_user);
    return true;
}

bool session_lookup_admit(struct worker *w, struct session *s)
{
    struct config *config = app_config();
    const struct pool_config *pool = config_pool(config, session_database(s));
    bool good = true;

    if (atomic_load(&s->shared->origin) == ORIGIN_STATIC) {
        s->login->found = NULL; /* since a moment ago it is written down */
    } else if (pool == NULL || pool->auth_query == NULL) {
        session_login_refused(w, s, "3D000", NULL);
        good = false;
    } else if (pool->auth_query->server_user != NULL) {
        good = admit_to_shared(w, s, pool->auth_query->server_user);
    } else {
        log_info("[%s@%s] auth_query: authenticated (passthrough mode)", session_user(s),
                 session_database(s));
        pools_admit(w, s->shared);
        s->admitted = true;
    }
    config_unref(config);
    return good;
}

void session_lookup_no_backend(struct worker *w, struct session *s, char *sqlstate,
                               size_t state_size, char *text, size_t text_size)
{
    /* PostgreSQL's own words, about a startup parameter perhaps: what was found is no good. */
    if (strcmp(sqlstate, "53300") != 0) {
        if (s->admitted)
            distrust(w, s);
        return;
    }
    snprintf(sqlstate, state_size, "58000");
    snprintf(text, text_size, "%s",
             s->admitted ? "Unable to connect to database server. Please try again later."
                         : "Unable to retrieve server parameters. Please try again later.");
}
