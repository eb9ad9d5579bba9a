#include "actors/client_link.h"

#include "actors/client_link_tls.h"

#include "auth/scram.h"
#include "proto/messages.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    WAIT_SECONDS = 30,
    LOGIN_LIMIT = 16 << 20, /* of a message before ReadyForQuery */
    MESSAGE_LIMIT = 1 << 30,
    BODY_STEP = 64 << 10,
    AUTH_OK = 0,
    AUTH_CLEARTEXT = 3,
    AUTH_MD5 = 5,
    AUTH_SASL = 10,
    AUTH_SASL_CONTINUE = 11,
    AUTH_SASL_FINAL = 12,
};

struct client_link {
    int fd;
    struct link_tls *tls; /* NULL: plain */
    const struct link_target *target;
    struct scram_client scram;
    bool scram_begun;
    bool scram_verified;
    bool logged_in;
    char type; /* of the last message */
    uint8_t *body;
    size_t body_len;
    struct bytes *cells; /* of the last row; into body */
    struct failure *why;
};

/* --- connecting --- */

static int connect_on(int family, const struct sockaddr *address, socklen_t len)
{
    struct timeval limit = {.tv_sec = WAIT_SECONDS};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, address, len) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int connect_unix(const struct link_target *t, struct failure *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%d", t->host,
                       t->port);

    if ((size_t)len >= sizeof address.sun_path)
        return fail(why, "the socket's path is too long: %s", t->host);
    int fd = connect_on(AF_UNIX, (const struct sockaddr *)&address, sizeof address);
    return fd >= 0 ? fd
                   : fail(why, "error connecting to %s: %s (os error %d): %s", t->peer,
                          strerror(errno), errno, address.sun_path);
}

static int connect_tcp(const struct link_target *t, struct failure *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    char port[16];
    int fd = -1;

    snprintf(port, sizeof port, "%d", t->port);
    int error = getaddrinfo(t->host, port, &hints, &list);
    if (error != 0)
        return fail(why, "error connecting to %s: %s: %s", t->peer, gai_strerror(error), t->host);
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
        fd = connect_on(a->ai_family, a->ai_addr, a->ai_addrlen);
    int saved = errno;
    freeaddrinfo(list);
    return fd >= 0 ? fd
                   : fail(why, "error connecting to %s: %s (os error %d): %s, port %d", t->peer,
                          strerror(saved), saved, t->host, t->port);
}

/* --- messages --- */

static ssize_t send_some(struct client_link *l, const uint8_t *at, size_t len)
{
    return l->tls != NULL ? link_tls_write(l->tls, at, len) : send(l->fd, at, len, MSG_NOSIGNAL);
}

static ssize_t receive_some(struct client_link *l, uint8_t *at, size_t len)
{
    return l->tls != NULL ? link_tls_read(l->tls, at, len) : recv(l->fd, at, len, 0);
}

static int send_all(struct client_link *l, struct writer *w)
{
    size_t sent = 0;
    int result = w->failed ? fail(l->why, "out of memory") : 0;

    while (result == 0 && sent < w->len) {
        ssize_t n = send_some(l, w->at + sent, w->len - sent);

        if (n > 0)
            sent += (size_t)n;
        else if (errno != EINTR)
            result = fail(l->why, "sending to %s: %s", l->target->peer, strerror(errno));
    }
    if (w->len > 0)
        explicit_bzero(w->at, w->len); /* it may hold a password */
    writer_free(w);
    return result;
}

static int read_exactly(struct client_link *l, uint8_t *at, size_t len)
{
    const char *peer = l->target->peer;

    while (len > 0) {
        ssize_t n = receive_some(l, at, len);

        if (n == 0)
            return fail(l->why, "%s closed the connection", peer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return fail(l->why, "no answer within %d seconds", WAIT_SECONDS);
        if (n < 0)
            return fail(l->why, "receiving from %s: %s", peer, strerror(errno));
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int fail_with_error(struct client_link *l)
{
    struct error_fields e;

    if (read_error(l->body, l->body_len, &e) != 0)
        return fail(l->why, "%s sent a malformed error", l->target->peer);
    return fail(l->why, "%s%.*s: %.*s (%.*s)", l->target->refusal, (int)MIN(e.severity.len, 20u),
                (const char *)e.severity.at, (int)MIN(e.message.len, 400u),
                (const char *)e.message.at, (int)MIN(e.sqlstate.len, 5u),
                (const char *)e.sqlstate.at);
}

/* A header alone is no reason to make room for what it promises. */
static int read_body(struct client_link *l, size_t len)
{
    size_t have = 0;

    do {
        size_t room = MIN(len, MAX(2 * have, (size_t)BODY_STEP));
        uint8_t *body = realloc(l->body, MAX(room, (size_t)1));

        if (body == NULL)
            return fail(l->why, "out of memory");
        l->body = body;
        l->body_len = room;
        if (read_exactly(l, l->body + have, room - have) != 0)
            return -1;
        have = room;
    } while (have < len);
    return 0;
}

/* Reads the next message that matters into l; an ErrorResponse is a failure. */
static int read_message(struct client_link *l)
{
    for (;;) {
        uint8_t header[FRAME_HEADER];
        struct frame f;

        if (read_exactly(l, header, sizeof header) != 0)
            return -1;
        if (frame_peek(&f, header, sizeof header, l->logged_in ? MESSAGE_LIMIT : LOGIN_LIMIT) ==
            FRAME_BROKEN)
            return fail(l->why, "what answers there does not speak PostgreSQL's protocol");
        l->type = (char)f.type;
        if (read_body(l, f.body_len) != 0)
            return -1;
        if (l->type == 'E')
            return fail_with_error(l);
        if (l->type != 'N' && l->type != 'S')
            return 0;
    }
}

/* --- authentication --- */

static int answer_md5(struct client_link *l, struct bytes salt)
{
    const struct link_target *t = l->target;
    char stored[MD5_TEXT + 1];
    char response[MD5_TEXT + 1];
    struct writer w;

    if (salt.len != 4)
        return fail(l->why, "malformed authentication request");
    if (secret_kind(t->password) == SECRET_MD5)
        snprintf(stored, sizeof stored, "%s", t->password);
    else
        md5_stored(stored, t->password, t->user);
    md5_response(response, stored, salt.at);
    writer_init(&w);
    write_password(&w, response);
    return send_all(l, &w);
}

static int answer_cleartext(struct client_link *l)
{
    struct writer w;

    /* It would go to whoever listens there. */
    if (!l->target->cleartext)
        return fail(l->why, "%s asks for an unsupported authentication (%u)", l->target->peer,
                    AUTH_CLEARTEXT);
    writer_init(&w);
    write_password(&w, l->target->password);
    return send_all(l, &w);
}

static int answer_sasl(struct client_link *l)
{
    uint8_t random[18];
    char message[128];
    struct writer w;

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return fail(l->why, "no random bytes: %s", strerror(errno));
    l->scram.password = l->target->password;
    l->scram_begun = true;
    scram_client_begin(&l->scram, random, message, sizeof message);
    writer_init(&w);
    write_sasl_initial(&w, "SCRAM-SHA-256", bytes_of(message));
    return send_all(l, &w);
}

static int answer_sasl_continue(struct client_link *l, struct bytes challenge)
{
    char message[SCRAM_NONCE_MAX + 256];
    struct writer w;

    if (!l->scram_begun)
        return fail(l->why, "malformed authentication request");
    if (scram_client_challenge(&l->scram, challenge, message, sizeof message, l->why) != 0)
        return -1;
    writer_init(&w);
    write_sasl_response(&w, bytes_of(message));
    return send_all(l, &w);
}

static int answer_request(struct client_link *l, uint32_t code, struct bytes rest)
{
    if (l->target->password == NULL)
        return fail(l->why, "invalid configuration: password missing (%s asks for one)",
                    l->target->peer);
    switch (code) {
    case AUTH_CLEARTEXT: return answer_cleartext(l);
    case AUTH_MD5: return answer_md5(l, rest);
    case AUTH_SASL: return answer_sasl(l);
    case AUTH_SASL_CONTINUE: return answer_sasl_continue(l, rest);
    case AUTH_SASL_FINAL:
        if (!l->scram_begun || scram_client_verify(&l->scram, rest, l->why) != 0)
            return fail(l->why, "%s does not know the password itself", l->target->peer);
        l->scram_verified = true;
        return 0;
    default:
        return fail(l->why, "%s asks for an unsupported authentication (%u)", l->target->peer,
                    code);
    }
}

static int authenticate(struct client_link *l)
{
    for (;;) {
        if (read_message(l) != 0)
            return -1;
        struct cursor c = cursor_of(l->body, l->body_len);
        uint32_t code = cursor_u32(&c);
        if (l->type != 'R' || c.bad)
            return fail(l->why, "unexpected message during login");
        if (code == AUTH_OK)
            return l->scram_begun && !l->scram_verified
                       ? fail(l->why, "%s ended the login without proof", l->target->peer)
                       : 0;
        if (answer_request(l, code, (struct bytes){c.at, cursor_left(&c)}) != 0)
            return -1;
    }
}

static int log_in(struct client_link *l)
{
    const struct parameter parameters[] = {
        {bytes_of("user"), bytes_of(l->target->user)},
        {bytes_of("database"), bytes_of(l->target->database)},
        {bytes_of("application_name"), bytes_of(l->target->application)},
        {bytes_of("client_encoding"), bytes_of("UTF8")},
    };
    struct writer w;

    writer_init(&w);
    write_startup(&w, PROTOCOL_3_0, parameters, COUNT_OF(parameters));
    if (send_all(l, &w) != 0 || authenticate(l) != 0)
        return -1;
    do {
        if (read_message(l) != 0)
            return -1;
    } while (l->type != 'Z');
    l->logged_in = true;
    return 0;
}

/* --- queries --- */

static int split_row(struct client_link *l, uint16_t *count)
{
    struct cursor c = cursor_of(l->body, l->body_len);

    *count = cursor_u16(&c);
    struct bytes *cells = realloc(l->cells, MAX(*count, 1u) * sizeof *cells);
    if (cells == NULL)
        return fail(l->why, "out of memory");
    l->cells = cells;
    for (uint16_t i = 0; i < *count; i++) {
        uint32_t len = cursor_u32(&c);

        cells[i] = len == UINT32_MAX ? (struct bytes){NULL, 0} : cursor_bytes(&c, len);
    }
    return c.bad ? fail(l->why, "%s sent a malformed row", l->target->peer) : 0;
}

int client_link_query(struct client_link *l, const char *sql, client_link_row *row, void *context)
{
    struct writer w;
    int result = 0;

    writer_init(&w);
    write_query(&w, sql);
    if (send_all(l, &w) != 0)
        return -1;
    do {
        uint16_t count;

        if (read_message(l) != 0)
            return -1;
        if (l->type == 'D' && result == 0 &&
            (split_row(l, &count) != 0 || row(context, l->cells, count, l->why) != 0))
            result = -1;
    } while (l->type != 'Z');
    return result;
}

/* --- life --- */

static int begin_tls(struct client_link *l)
{
    struct writer w;
    uint8_t answer;

    writer_init(&w);
    write_ssl_request(&w);
    if (send_all(l, &w) != 0 || read_exactly(l, &answer, 1) != 0)
        return -1;
    if (answer != 'S')
        return fail(l->why, "error performing TLS handshake: %s does not support TLS",
                    l->target->peer);
    return link_tls_begin(&l->tls, l->fd, l->target->host, l->why);
}

int client_link_open(struct client_link **out, const struct link_target *target,
                     struct failure *why)
{
    struct client_link *l = calloc(1, sizeof *l);
    bool local = target->host[0] == '/';

    if (l == NULL)
        return fail(why, "out of memory");
    l->target = target;
    l->why = why;
    l->fd = local ? connect_unix(target, why) : connect_tcp(target, why);
    if (l->fd >= 0 && (!target->tls || local || begin_tls(l) == 0) && log_in(l) == 0) {
        *out = l;
        return 0;
    }
    client_link_close(l);
    return -1;
}

void client_link_close(struct client_link *l)
{
    struct failure ignored;
    struct writer w;

    l->why = &ignored;
    if (l->fd >= 0) {
        writer_init(&w);
        write_terminate(&w);
        (void)send_all(l, &w);
        link_tls_end(l->tls);
        close(l->fd);
    }
    explicit_bzero(&l->scram, sizeof l->scram);
    if (l->body != NULL)
        explicit_bzero(l->body, l->body_len);
    free(l->body);
    free(l->cells);
    free(l);
}
