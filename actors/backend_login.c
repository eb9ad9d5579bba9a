#define LOG_MODULE "pg_doorman::server"
#include "actors/backend_internal.h"

#include "config/derive.h"
#include "runtime/log.h"
#include "runtime/offload.h"
#include "runtime/world.h"

#include <errno.h>
#include <openssl/mem.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

/* What one login knows. */
struct login {
    struct backend *b;
    struct backend_error *error;
    struct message_reader reader;
    enum material_kind material;
    char secret[1024]; /* plain, or "md5..." */
    struct scram_client scram;
    bool sasl_started;
    bool sasl_verified;
    bool admitted; /* AuthenticationOk came */
};

PRINTF_LIKE(4, 5)
static int refuse(struct login *l, enum backend_failure kind, const char *sqlstate,
                  const char *format, ...)
{
    va_list arguments;

    l->error->kind = kind;
    snprintf(l->error->sqlstate, sizeof l->error->sqlstate, "%s", sqlstate);
    va_start(arguments, format);
    vsnprintf(l->error->text, sizeof l->error->text, format, arguments);
    va_end(arguments);
    return -1;
}

static int timed_out(struct login *l)
{
    const struct effective *e = l->b->effective;

    return refuse(l, FAILURE_CONNECT, "53300",
                  "Backend connect error: server startup timed out to %s:%u after %llums",
                  e->server_host, e->server_port, (unsigned long long)e->connect_timeout_ms);
}

static int connect_failed(struct login *l, int error)
{
    const struct effective *e = l->b->effective;

    if (error == ETIMEDOUT)
        return timed_out(l);
    bool here = error == EMFILE || error == ENFILE;
    return refuse(l, here ? FAILURE_RESOURCES : FAILURE_CONNECT, here ? "53000" : "53300",
                  "%sCould not connect to %s:%u: %s (os error %d)",
                  here ? "" : "Backend connect error: ", e->server_host, e->server_port,
                  strerror(error), error);
}

/* An error that names no cause of its own: the link broke, or spoke nonsense. */
static int link_failed(struct login *l, int error)
{
    if (error == ETIMEDOUT)
        return timed_out(l);
    return refuse(l, FAILURE_CONNECT, "53300", "Backend connect error: %s:%u: %s",
                  l->b->effective->server_host, l->b->effective->server_port,
                  error == ECONNRESET ? "connection closed during startup" : strerror(error));
}

static int auth_failed(struct login *l, const char *what)
{
    const struct effective *e = l->b->effective;

    return refuse(l, FAILURE_LOGIN, "53300", "%s for { username: %s, database: %s }", what,
                  e->server_user, e->server_database);
}

/* --- connecting --- */

static int resolve(struct worker *w, struct login *l)
{
    struct backend *b = l->b;
    const struct effective *e = b->effective;
    struct failure why;

    if (e->server_host[0] == '/') {
        struct sockaddr_un *local = (struct sockaddr_un *)&b->address;
        int len = snprintf(local->sun_path, sizeof local->sun_path, "%s/.s.PGSQL.%u",
                           e->server_host, e->server_port);

        local->sun_family = AF_UNIX;
        b->address_len = sizeof *local;
        if (len < 0 || (size_t)len >= sizeof local->sun_path)
            return refuse(l, FAILURE_CONNECT, "53300",
                          "Backend connect error: Could not connect to %s:%u: socket path is too "
                          "long",
                          e->server_host, e->server_port);
        return 0;
    }
    if (io_resolve_until(w, e->server_host, e->server_port, l->reader.deadline_us, &b->address,
                         &b->address_len, &why) != 0)
        return refuse(l, FAILURE_CONNECT, "53300",
                      "Backend connect error: Could not connect to %s:%u: %s", e->server_host,
                      e->server_port, why.text);
    return 0;
}

/* Encryption that was demanded and cannot be had is no reason to go without. */
static bool demands_tls(const struct effective *e)
{
    return e->server_tls_mode >= SERVER_TLS_REQUIRE && e->server_host[0] != '/';
}

static int open_socket(struct worker *w, struct login *l)
{
    struct backend *b = l->b;

    if (demands_tls(b->effective))
        return refuse(l, FAILURE_LOGIN, "53300",
                      "server_tls_mode demands TLS to %s:%u, which this version does not have",
                      b->effective->server_host, b->effective->server_port);

    if (resolve(w, l) != 0)
        return -1;
    int fd = io_connect(w, (const struct sockaddr *)&b->address, b->address_len,
                        l->reader.deadline_us);
    if (fd < 0)
        return connect_failed(l, -fd);
    socket_options(fd, b->address.ss_family == AF_UNIX, &b->config->general);
    conn_open(&b->conn, fd, &b->actor);
    return 0;
}

static int send_out(struct worker *w, struct login *l, struct writer *out)
{
    int64_t result = out->failed
                         ? -ENOMEM
                         : conn_write(w, &l->b->conn, out->at, out->len, l->reader.deadline_us);

    writer_free(out);
    return result == 0 ? 0 : link_failed(l, (int)-result);
}

/* Which of its sources is to blame: what a user's row brings along may be too much alone. */
static bool fits_without_row(const struct login *l)
{
    const struct pool_config *pool = config_pool(l->b->config, l->b->shared->database);
    struct effective without = *l->b->effective;

    if (pool == NULL || pool->auth_query == NULL)
        return false;
    without.startup_parameters = pool->auth_query->effective.startup_parameters;
    return startup_size(&without).fits;
}

static int refuse_startup(struct login *l, const struct startup_size *size)
{
    return refuse(l, FAILURE_PARAMETER, "53400",
                  "startup_parameters for pool '%s' do not fit: body %zu bytes, packet %zu bytes "
                  "(limits %d and %d): %s are too large",
                  l->b->shared->database, size->body_bytes, size->packet_bytes,
                  STARTUP_BODY_BYTES_MAX, STARTUP_PACKET_BYTES_MAX,
                  fits_without_row(l) ? "those of the user's auth_query row"
                                      : "those of general and pool");
}

static int send_startup(struct worker *w, struct login *l)
{
    const struct startup_size size = startup_size(l->b->effective);
    const struct effective *e = l->b->effective;
    const char *application = e->application_name;
    struct parameter pairs[3 + 256];
    size_t count = 0;
    struct writer out;

    if (!size.fits)
        return refuse_startup(l, &size);
    for (size_t i = 0; i < e->startup_parameters.count; i++) {
        if (strcmp(e->startup_parameters.items[i].name, "application_name") == 0)
            application = e->startup_parameters.items[i].value;
    }
    pairs[count++] = (struct parameter){bytes_of("user"), bytes_of(e->server_user)};
    pairs[count++] = (struct parameter){bytes_of("application_name"), bytes_of(application)};
    pairs[count++] = (struct parameter){bytes_of("database"), bytes_of(e->server_database)};
    for (size_t i = 0; i < e->startup_parameters.count && count < COUNT_OF(pairs); i++) {
        const struct pair *pair = &e->startup_parameters.items[i];

        if (strcmp(pair->name, "application_name") != 0)
            pairs[count++] = (struct parameter){bytes_of(pair->name), bytes_of(pair->value)};
    }
    writer_init(&out);
    write_startup(&out, PROTOCOL_3_0, pairs, count);
    return send_out(w, l, &out);
}

/* --- authentication --- */

static void choose_material(struct login *l)
{
    struct pool_shared *shared = l->b->shared;

    if (l->b->effective->server_password != NULL) {
        l->material = secret_kind(l->b->effective->server_password) == SECRET_MD5 ? MATERIAL_MD5
                                                                                  : MATERIAL_PLAIN;
        snprintf(l->secret, sizeof l->secret, "%s", l->b->effective->server_password);
        return;
    }
    pthread_mutex_lock(&shared->lock);
    l->material = shared->material;
    if (shared->material == MATERIAL_MD5)
        snprintf(l->secret, sizeof l->secret, "%s", shared->md5);
    if (shared->material == MATERIAL_PLAIN)
        snprintf(l->secret, sizeof l->secret, "%s", shared->secret);
    if (shared->material == MATERIAL_KEYS) {
        memcpy(l->scram.client_key, shared->client_key, SCRAM_KEY);
        memcpy(l->scram.server_key, shared->server_key, SCRAM_KEY);
    }
    pthread_mutex_unlock(&shared->lock);
}

static int answer_clear(struct worker *w, struct login *l)
{
    struct writer out;

    if (l->material != MATERIAL_PLAIN)
        return auth_failed(l, "server wants clear password authentication, but auth for this "
                              "server is not configured");
    /* Only where nobody can listen; TLS brings the other case. */
    if (l->b->address.ss_family != AF_UNIX && !l->b->tls)
        return auth_failed(l, "plain password is not supported");
    writer_init(&out);
    write_password(&out, l->secret);
    return send_out(w, l, &out);
}

static int answer_md5(struct worker *w, struct login *l, const uint8_t *salt)
{
    char stored[MD5_TEXT + 1];
    char response[MD5_TEXT + 1];
    struct writer out;

    if (l->material == MATERIAL_MD5)
        snprintf(stored, sizeof stored, "%.*s", MD5_TEXT, l->secret);
    else if (l->material == MATERIAL_PLAIN)
        md5_stored(stored, l->secret, l->b->effective->server_user);
    else
        return auth_failed(l, "server wants md5 authentication, but auth for this server is not "
                              "configured");
    md5_response(response, stored, salt);
    writer_init(&out);
    write_password(&out, response);
    return send_out(w, l, &out);
}

static bool offers_scram(struct cursor *body)
{
    while (cursor_left(body) > 0 && !body->bad) {
        if (bytes_equal(cursor_string(body), bytes_of("SCRAM-SHA-256")))
            return true;
    }
    return false;
}

static int answer_sasl(struct worker *w, struct login *l, struct cursor *body)
{
    uint8_t random[18];
    char first[128];
    struct writer out;

    if (l->sasl_started)
        return auth_failed(l, "authentication on the server is not supported");
    if (!offers_scram(body))
        return auth_failed(l, "Unsupported SCRAM version");
    if (l->material == MATERIAL_PENDING) {
        log_warn("[%s@%s] backend connection attempted before first client SCRAM auth "
                 "(ScramPending)",
                 l->b->shared->user, l->b->shared->database);
        auth_failed(l, "server wants sasl auth, but it is not configured");
        l->error->kind = FAILURE_EARLY;
        return -1;
    }
    if (l->material != MATERIAL_PLAIN && l->material != MATERIAL_KEYS)
        return auth_failed(l, "server wants sasl auth, but it is not configured");
    l->scram.password = l->material == MATERIAL_PLAIN ? l->secret : NULL;
    random_secret(random, sizeof random);
    scram_client_begin(&l->scram, random, first, sizeof first);
    l->sasl_started = true;
    writer_init(&out);
    write_sasl_initial(&out, "SCRAM-SHA-256", bytes_of(first));
    return send_out(w, l, &out);
}

struct challenge {
    struct login *login;
    struct bytes text;
    char answer[SCRAM_NONCE_MAX + 256];
    struct failure why;
    int result;
};

/* On a helper thread: deriving keys from a password takes milliseconds. */
static void challenge_run(void *argument)
{
    struct challenge *c = argument;

    c->result = scram_client_challenge(&c->login->scram, c->text, c->answer, sizeof c->answer,
                                       &c->why);
}

static int answer_challenge(struct worker *w, struct login *l, struct cursor *body)
{
    struct challenge challenge = {.login = l, .text = cursor_bytes(body, cursor_left(body))};
    struct writer out;

    if (!l->sasl_started || l->scram.proved) /* one question, one answer */
        return auth_failed(l, "authentication on the server is not supported");
    if (l->scram.password == NULL)
        challenge_run(&challenge);
    else if (offload_run(w, challenge_run, &challenge) != 0)
        return auth_failed(l, "no helper thread for key derivation");
    if (challenge.result != 0)
        return auth_failed(l, challenge.why.text);
    writer_init(&out);
    write_sasl_response(&out, bytes_of(challenge.answer));
    return send_out(w, l, &out);
}

static int answer_authentication(struct worker *w, struct login *l, const struct frame *frame)
{
    struct cursor body = cursor_of(frame->body, frame->body_len);
    uint32_t code = cursor_u32(&body);
    struct failure why;

    if (body.bad)
        return link_failed(l, EPROTO);
    if (l->material == MATERIAL_PENDING) /* a client may have shown its proof by now */
        choose_material(l);
    switch (code) {
    case 0:
        if (l->sasl_started && !l->sasl_verified)
            return auth_failed(l, "server skipped the proof of its identity");
        l->admitted = true;
        return 0;
    case 3: return answer_clear(w, l);
    case 5: {
        struct bytes salt = cursor_bytes(&body, 4);

        return body.bad ? link_failed(l, EPROTO) : answer_md5(w, l, salt.at);
    }
    case 10: return answer_sasl(w, l, &body);
    case 11: return answer_challenge(w, l, &body);
    case 12:
        if (!l->sasl_started ||
            scram_client_verify(&l->scram, cursor_bytes(&body, cursor_left(&body)), &why) != 0)
            return auth_failed(l, "server signature does not match");
        l->sasl_verified = true;
        return 0;
    default: return auth_failed(l, "authentication on the server is not supported");
    }
}

/* --- until ReadyForQuery --- */

static bool names_parameter(const struct effective *e, struct bytes message)
{
    for (size_t i = 0; i < e->startup_parameters.count; i++) {
        const char *name = e->startup_parameters.items[i].name;

        if (memmem(message.at, message.len, name, strlen(name)) != NULL)
            return true;
    }
    return false;
}

static int refused_by_server(struct login *l, const struct frame *frame)
{
    const struct effective *e = l->b->effective;
    struct error_fields fields;
    char state[6];

    if (read_error(frame->body, frame->body_len, &fields) != 0)
        return link_failed(l, EPROTO);
    snprintf(state, sizeof state, "%.*s", (int)fields.sqlstate.len,
             (const char *)fields.sqlstate.at);
    if (strncmp(state, "57P", 3) == 0)
        return refuse(l, FAILURE_CONNECT, "53300",
                      "Backend unavailable: %.*s for { username: %s, database: %s }",
                      (int)fields.message.len, (const char *)fields.message.at, e->server_user,
                      e->server_database);
    if (names_parameter(e, fields.message)) {
        log_error("[%s@%s] PG rejected operator-supplied startup parameter: %.*s",
                  l->b->shared->user, l->b->shared->database, (int)fields.message.len,
                  (const char *)fields.message.at);
        return refuse(l, FAILURE_PARAMETER, state, "%.*s", (int)fields.message.len,
                      (const char *)fields.message.at);
    }
    return refuse(l, FAILURE_LOGIN, "53300",
                  "Error reading %s: %.*s on server startup { username: %s, database: %s }", state,
                  (int)fields.message.len, (const char *)fields.message.at, e->server_user,
                  e->server_database);
}

static int note_key(struct login *l, const struct frame *frame)
{
    struct cursor body = cursor_of(frame->body, frame->body_len);
    uint32_t pid = cursor_u32(&body);
    size_t len = cursor_left(&body);

    if (body.bad || len == 0 || len > sizeof l->b->key)
        return link_failed(l, EPROTO);
    l->b->pid = (int32_t)pid;
    l->b->key_len = (uint8_t)len;
    memcpy(l->b->key, cursor_bytes(&body, len).at, len);
    return 0;
}

static int startup_message(struct worker *w, struct login *l, const struct frame *frame)
{
    struct parameter pair;

    switch (frame->type) {
    case 'R': return answer_authentication(w, l, frame);
    case 'S':
        if (read_parameter_status(frame->body, frame->body_len, &pair) != 0)
            return link_failed(l, EPROTO);
        backend_set_parameter(l->b, pair.name, pair.value);
        return 0;
    case 'K': return note_key(l, frame);
    case 'E': return refused_by_server(l, frame);
    case 'N': return 0;
    case 'v': return 0;
    default: return link_failed(l, EPROTO);
    }
}

static int converse(struct worker *w, struct login *l)
{
    struct frame frame;
    int error = 0;

    for (;;) {
        if (reader_next(w, &l->reader, &frame, &error) != 0)
            return link_failed(l, error);
        if (frame.type == 'Z')
            return l->admitted ? 0 : link_failed(l, EPROTO);
        if (startup_message(w, l, &frame) != 0)
            return -1;
    }
}

int backend_login(struct worker *w, struct backend *b, struct backend_error *error)
{
    struct login *l = calloc(1, sizeof *l);

    INVARIANT(l != NULL);
    l->b = b;
    l->error = error;
    l->reader.conn = &b->conn;
    l->reader.deadline_us = clock_us() + b->effective->connect_timeout_ms * 1000;
    choose_material(l);
    int result = open_socket(w, l) == 0 && send_startup(w, l) == 0 && converse(w, l) == 0 ? 0 : -1;
    b->created_us = clock_us();
    reader_free(&l->reader);
    OPENSSL_cleanse(l, sizeof *l);
    free(l);
    return result;
}

enum cancel_outcome backend_send_cancel(struct worker *w, const struct sockaddr_storage *address,
                                        socklen_t len, int32_t pid, const uint8_t *key,
                                        size_t key_len)
{
    uint64_t deadline_us = clock_us() + 1000000;
    int fd = io_connect(w, (const struct sockaddr *)address, len, deadline_us);
    uint8_t storage[64];
    struct writer out;
    uint8_t byte;

    if (fd < 0)
        return CANCEL_NOT_SENT;
    writer_init_fixed(&out, storage, sizeof storage);
    write_cancel(&out, (uint32_t)pid, key, key_len);
    bool sent = !out.failed && io_send(fd, out.at, out.len) == (ssize_t)out.len;
    /* The server closes it when the signal was sent: only then is "sent" "delivered". A link that
     * breaks tells nothing: the request may be under way still. */
    bool closed = sent && io_wait_fd(w, fd, POLLIN, deadline_us + 1000000) > 0 &&
                  io_peek(fd, &byte) == 0;
    io_close(fd);
    return closed ? CANCEL_DELIVERED : sent ? CANCEL_UNSURE : CANCEL_NOT_SENT;
}
