/* How a client proves itself: trust, cleartext, MD5, SCRAM-SHA-256. */
#define LOG_MODULE "pg_doorman::auth"
#include "actors/session_login.h"

#include "runtime/log.h"

#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>

static const char wrong_password[] =
    "Authentication failed. Please check your username and password.";

/* Of this process: what makes the salts of users who do not exist. */
static uint8_t mock_secret[SCRAM_KEY];
static pthread_once_t mock_once = PTHREAD_ONCE_INIT;
static bool mock_given;

static void draw_mock_secret(void)
{
    if (!mock_given)
        random_secret(mock_secret, sizeof mock_secret);
}

void session_mock_secret_get(uint8_t out[SCRAM_KEY])
{
    pthread_once(&mock_once, draw_mock_secret);
    memcpy(out, mock_secret, sizeof mock_secret);
}

void session_mock_secret_set(const uint8_t secret[SCRAM_KEY])
{
    memcpy(mock_secret, secret, sizeof mock_secret);
    mock_given = true;
    pthread_once(&mock_once, draw_mock_secret);
}

static void put(struct worker *w, struct session *s, struct writer *out)
{
    INVARIANT(!out->failed);
    conn_put_copy(w, &s->conn, out->at, out->len);
    writer_free(out);
}

static void ask_md5(struct worker *w, struct session *s)
{
    struct session_login *l = s->login;
    struct writer out;

    random_secret(l->salt, sizeof l->salt);
    l->step = AUTH_MD5;
    session_go(s, SESSION_AUTH);
    writer_init(&out);
    write_authentication(&out, 5, l->salt, sizeof l->salt);
    put(w, s, &out);
}

static void ask_clear(struct worker *w, struct session *s)
{
    struct writer out;

    s->login->step = AUTH_CLEAR;
    session_go(s, SESSION_AUTH);
    writer_init(&out);
    write_authentication(&out, 3, NULL, 0);
    put(w, s, &out);
}

/* With the verifier that is in login->scram. */
static void offer_scram(struct worker *w, struct session *s)
{
    struct writer out;

    s->login->step = AUTH_SCRAM_FIRST;
    session_go(s, SESSION_AUTH);
    writer_init(&out);
    write_sasl_mechanisms(&out);
    put(w, s, &out);
}

static void ask_scram(struct worker *w, struct session *s)
{
    struct pool_shared *shared = s->shared;

    pthread_mutex_lock(&shared->lock);
    s->login->scram.verifier = shared->verifier;
    pthread_mutex_unlock(&shared->lock);
    offer_scram(w, s);
}

static void start_scram(struct worker *w, struct session *s, const char *secret)
{
    pthread_mutex_lock(&s->shared->lock);
    bool known = s->shared->verifier_known;
    pthread_mutex_unlock(&s->shared->lock);
    if (known)
        ask_scram(w, s);
    else
        session_derive_verifier(w, s, secret);
}

/* --- choosing --- */

bool session_auth_start(struct worker *w, struct session *s, const struct hba_peer *peer)
{
    struct pool_shared *shared = s->shared;
    char text[512];
    char *secret;
    bool trusted = false;

    pthread_mutex_lock(&shared->lock);
    secret = strdup(shared->secret != NULL ? shared->secret : "");
    enum secret_kind kind = shared->secret_kind;
    pthread_mutex_unlock(&shared->lock);
    INVARIANT(secret != NULL);
    switch (hba_method(s->login->config->hba, peer, session_database(s), session_user(s), kind)) {
    case HBA_TRUST: trusted = true; break;
    case HBA_MD5:
        if (kind == SECRET_MD5)
            snprintf(s->login->md5, sizeof s->login->md5, "%s", secret);
        else
            md5_stored(s->login->md5, secret, session_user(s));
        ask_md5(w, s);
        break;
    case HBA_SCRAM: start_scram(w, s, secret); break;
    case HBA_CLEARTEXT: ask_clear(w, s); break;
    case HBA_DENY:
        if (s->login->found != NULL) {
            snprintf(text, sizeof text,
                     "Connection from IP address %s to %s@%s is not permitted by HBA "
                     "configuration.",
                     session_address(s), session_user(s), session_database(s));
            session_fatal(w, s, "28000", text, false);
            break;
        }
        snprintf(text, sizeof text,
                 "Connection with scram password from IP address %s to %s@%s is not permitted by "
                 "HBA configuration. Please contact your database administrator.",
                 session_address(s), session_user(s), session_database(s));
        session_fatal(w, s, "28000", text, false);
        break;
    case HBA_UNUSABLE:
        log_warn("[%s@%s] unsupported password type", session_user(s), session_database(s));
        session_fatal(w, s, "28P01",
                      s->login->found != NULL
                          ? "Unsupported authentication method for auth_query user."
                          : "Authentication method not supported. Please contact your database "
                            "administrator.",
                      false);
        break;
    }
    OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
    return trusted;
}

/* A challenge that nobody can answer. The salt depends on the name, so that asking twice tells
 * nothing. */
static void mock_scram(struct worker *w, struct session *s)
{
    struct scram_verifier *verifier = &s->login->scram.verifier;

    pthread_once(&mock_once, draw_mock_secret);
    scram_mock_salt(verifier, mock_secret, session_database(s), session_user(s));
    random_secret(verifier->stored_key, sizeof verifier->stored_key);
    random_secret(verifier->server_key, sizeof verifier->server_key);
    offer_scram(w, s);
}

static void mock_md5(struct worker *w, struct session *s)
{
    uint8_t nobody[16];
    char password[2 * sizeof nobody + 1];

    random_secret(nobody, sizeof nobody);
    for (size_t i = 0; i < sizeof nobody; i++)
        snprintf(password + 2 * i, 3, "%02x", nobody[i]);
    md5_stored(s->login->md5, password, session_user(s));
    ask_md5(w, s);
}

bool session_auth_mock(struct worker *w, struct session *s, const struct hba_peer *peer)
{
    const struct hba *hba = s->login->config->hba;
    enum hba_method method = hba_method(hba, peer, session_database(s), session_user(s),
                                        SECRET_SCRAM);

    if (method == HBA_DENY || method == HBA_UNUSABLE)
        method = hba_method(hba, peer, session_database(s), session_user(s), SECRET_MD5);
    switch (method) {
    case HBA_SCRAM: mock_scram(w, s); return true;
    case HBA_MD5: mock_md5(w, s); return true;
    case HBA_CLEARTEXT: ask_clear(w, s); return true;
    case HBA_TRUST:
    case HBA_DENY:
    case HBA_UNUSABLE: break;
    }
    return false;
}

void session_auth_admin(struct worker *w, struct session *s)
{
    const struct general_config *g = &s->login->config->general;

    if (secret_kind(g->admin_password) == SECRET_MD5)
        snprintf(s->login->md5, sizeof s->login->md5, "%s", g->admin_password);
    else
        md5_stored(s->login->md5, g->admin_password, g->admin_username);
    ask_md5(w, s);
}

/* --- proving --- */

static void refuse_password(struct worker *w, struct session *s)
{
    char text[256];

    if (s->login->found != NULL) {
        session_lookup_refused(w, s, "password authentication failed");
        return;
    }
    if (!s->login->admin) {
        log_error("[%s@%s] %s authentication failed from %s", session_user(s), session_database(s),
                  s->login->step == AUTH_MD5 ? "MD5" : "password", session_address(s));
        session_fatal(w, s, "28P01", wrong_password, false);
        return;
    }
    log_warn("Invalid password for admin user: %s", session_user(s));
    snprintf(text, sizeof text, "password authentication failed for user \"%s\"", session_user(s));
    session_fatal(w, s, "28P01", text, false);
}

/* What is in force now; "" when it cannot be told. */
static void md5_in_force(const struct session *s, char stored[MD5_TEXT + 1])
{
    struct pool_shared *shared = s->shared;

    stored[0] = '\0';
    pthread_mutex_lock(&shared->lock);
    if (shared->secret_kind == SECRET_MD5)
        snprintf(stored, MD5_TEXT + 1, "%s", shared->secret);
    else if (shared->secret_kind == SECRET_PLAIN)
        md5_stored(stored, shared->secret, session_user(s));
    pthread_mutex_unlock(&shared->lock);
}

/* A reload may have changed it since the client was asked. */
static bool md5_is_in_force(const struct session *s)
{
    char stored[MD5_TEXT + 1];

    if (s->login->admin)
        return true;
    if (s->login->mock)
        return false;
    md5_in_force(s, stored);
    return strcmp(stored, s->login->md5) == 0;
}

bool session_auth_response_fits(const struct session *s)
{
    char stored[MD5_TEXT + 1];
    char wanted[MD5_TEXT + 1];

    md5_in_force(s, stored);
    if (stored[0] == '\0')
        return false;
    md5_response(wanted, stored, s->login->salt);
    return secret_equal(s->login->response, strlen(s->login->response), wanted, MD5_TEXT);
}

static bool on_md5(struct worker *w, struct session *s, struct cursor *body)
{
    struct session_login *l = s->login;
    struct bytes given = cursor_string(body);
    char wanted[MD5_TEXT + 1];

    md5_response(wanted, l->md5, l->salt);
    if (!body->bad && secret_equal(given.at, given.len, wanted, MD5_TEXT) && md5_is_in_force(s))
        return true;
    if (l->found != NULL && !l->mock && !body->bad && given.len == MD5_TEXT) {
        memcpy(l->response, given.at, given.len);
        return session_lookup_again(w, s);
    }
    refuse_password(w, s);
    return false;
}

/* The password itself came. A SCRAM secret takes a helper thread to compare with. */
static bool on_clear(struct worker *w, struct session *s, struct cursor *body)
{
    struct bytes given = cursor_string(body);
    struct pool_shared *shared = s->shared;
    char *password = (char *)given.at; /* of our own input; ends with a NUL */
    char md5[MD5_TEXT + 1];
    bool right = false;

    if (body->bad || s->login->mock) {
        OPENSSL_cleanse(password, given.len);
        refuse_password(w, s);
        return false;
    }
    pthread_mutex_lock(&shared->lock);
    enum secret_kind kind = shared->secret_kind;
    if (kind == SECRET_PLAIN)
        right = secret_equal(password, given.len, shared->secret, strlen(shared->secret));
    if (kind == SECRET_MD5) {
        md5_stored(md5, password, session_user(s));
        right = secret_equal(md5, MD5_TEXT, shared->secret, strlen(shared->secret));
    }
    if (kind == SECRET_SCRAM)
        s->login->scram.verifier = shared->verifier;
    pthread_mutex_unlock(&shared->lock);
    if (kind == SECRET_SCRAM)
        session_derive_check(w, s, password);
    OPENSSL_cleanse(password, given.len); /* a refusal may give the input back */
    if (kind != SECRET_SCRAM && !right)
        refuse_password(w, s);
    return right;
}

bool session_auth_derived(struct worker *w, struct session *s, const struct message *m)
{
    if (s->phase != SESSION_DERIVING)
        return false;
    if (s->login->step == AUTH_CLEAR) {
        if (message_get_DERIVED_KEYS(m).right)
            return true;
        refuse_password(w, s);
        return false;
    }
    pthread_mutex_lock(&s->shared->lock);
    bool known = s->shared->verifier_known;
    pthread_mutex_unlock(&s->shared->lock);
    if (known)
        ask_scram(w, s);
    else /* the secret was changed under this login */
        session_fatal(w, s, "28P01", wrong_password, false);
    return false;
}

static void scram_failed(struct worker *w, struct session *s, const char *stage, const char *reason,
                         const char *text)
{
    log_warn("[%s@%s] SCRAM: %s from %s: %s", session_user(s), session_database(s), stage,
             session_address(s), reason);
    session_fatal(w, s, "28P01", text, false);
}

static bool on_scram_first(struct worker *w, struct session *s, struct cursor *body)
{
    struct session_login *l = s->login;
    struct bytes mechanism = cursor_string(body);
    uint32_t len = cursor_u32(body);
    struct bytes message = cursor_bytes(body, cursor_left(body));
    uint8_t nonce[18];
    struct failure why = {"wrong mechanism or length"};
    struct writer out;
    enum scram_verdict verdict = SCRAM_MALFORMED;

    random_secret(nonce, sizeof nonce);
    if (!body->bad && bytes_equal(mechanism, bytes_of("SCRAM-SHA-256")) && len == message.len)
        verdict = scram_server_first(&l->scram, message, nonce, &why);
    if (verdict != SCRAM_OK) {
        scram_failed(w, s, "client first message parse error", why.text,
                     "Authentication protocol error. Your client may not support SCRAM "
                     "authentication properly.");
        return false;
    }
    l->step = AUTH_SCRAM_FINAL;
    writer_init(&out);
    write_authentication(&out, 11, l->scram.server_first, l->scram.server_first_len);
    put(w, s, &out);
    return false;
}

bool session_auth_promote(struct pool_shared *shared, const struct scram_verifier *verifier,
                          const uint8_t client_key[SCRAM_KEY])
{
    pthread_mutex_lock(&shared->lock);
    bool same = shared->verifier_known && secret_equal(shared->verifier.stored_key, SCRAM_KEY,
                                                       verifier->stored_key, SCRAM_KEY);
    bool promoted = same && shared->material == MATERIAL_PENDING;
    if (promoted) {
        shared->material = MATERIAL_KEYS;
        memcpy(shared->client_key, client_key, SCRAM_KEY);
        memcpy(shared->server_key, verifier->server_key, SCRAM_KEY);
    }
    pthread_mutex_unlock(&shared->lock);
    if (promoted)
        log_info("[%s@%s] %s passthrough: ClientKey stored after SCRAM auth", shared->user,
                 shared->database,
                 atomic_load(&shared->origin) == ORIGIN_STATIC ? "static" : "auth_query");
    return same;
}

static bool on_scram_final(struct worker *w, struct session *s, struct cursor *body)
{
    struct bytes message = cursor_bytes(body, cursor_left(body));
    struct failure why = {""};
    char final[128];
    struct writer out;

    switch (scram_server_final(&s->login->scram, message, final, &why)) {
    case SCRAM_OK: break;
    case SCRAM_MALFORMED:
        scram_failed(w, s, "client final message parse error", why.text,
                     "Authentication protocol error. Your client sent an invalid SCRAM final "
                     "message.");
        return false;
    case SCRAM_WRONG:
        if (s->login->found != NULL)
            session_lookup_refused(w, s, "SCRAM authentication failed, cache invalidated");
        else
            scram_failed(w, s, "server final message error", why.text,
                         "Authentication failed. Invalid credentials or authentication protocol "
                         "error.");
        return false;
    }
    if (!session_auth_promote(s->shared, &s->login->scram.verifier, s->login->scram.client_key)) {
        scram_failed(w, s, "server final message error", "the secret was changed meanwhile",
                     wrong_password);
        return false;
    }
    writer_init(&out);
    write_authentication(&out, 12, final, strlen(final));
    put(w, s, &out);
    return true;
}

bool session_auth_input(struct worker *w, struct session *s)
{
    struct frame frame;
    bool proven = false;

    switch (frame_peek(&frame, session_input(s), session_input_len(s), PASSWORD_LIMIT)) {
    case FRAME_PARTIAL:
        if (frame.body == NULL || frame.type == 'p')
            return false;
        break;
    case FRAME_BROKEN: session_close(w, s, "invalid length of password message"); return false;
    case FRAME_WHOLE: break;
    }
    if (frame.type != 'p') {
        session_close(w, s, "expected a password message");
        return false;
    }
    struct cursor body = cursor_of(frame.body, frame.body_len);
    switch (s->login->step) {
    case AUTH_MD5: proven = on_md5(w, s, &body); break;
    case AUTH_CLEAR: proven = on_clear(w, s, &body); break;
    case AUTH_SCRAM_FIRST: proven = on_scram_first(w, s, &body); break;
    case AUTH_SCRAM_FINAL: proven = on_scram_final(w, s, &body); break;
    }
    session_consume(w, s, MIN(FRAME_HEADER + frame.body_len, session_input_len(s)));
    return proven;
}
