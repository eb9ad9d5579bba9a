#include "actors/snapshot_link.h"

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
    MESSAGE_LIMIT = 1 << 30,
    AUTH_OK = 0,
    AUTH_CLEARTEXT = 3,
    AUTH_MD5 = 5,
    AUTH_SASL = 10,
    AUTH_SASL_CONTINUE = 11,
    AUTH_SASL_FINAL = 12,
};

struct link {
    int fd;
    const struct snapshot_target *target;
    struct scram_client scram;
    bool scram_begun;
    bool scram_verified;
    char type; /* of the last message */
    uint8_t *body;
    size_t body_len;
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

static int connect_unix(const struct snapshot_target *t, struct failure *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%d", t->host,
                       t->port);

    if ((size_t)len >= sizeof address.sun_path)
        return fail(why, "the socket's path is too long: %s", t->host);
    int fd = connect_on(AF_UNIX, (const struct sockaddr *)&address, sizeof address);
    return fd >= 0 ? fd : fail(why, "%s: %s", address.sun_path, strerror(errno));
}

static int connect_tcp(const struct snapshot_target *t, struct failure *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    char port[16];
    int fd = -1;

    snprintf(port, sizeof port, "%d", t->port);
    int error = getaddrinfo(t->host, port, &hints, &list);
    if (error != 0)
        return fail(why, "%s: %s", t->host, gai_strerror(error));
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
        fd = connect_on(a->ai_family, a->ai_addr, a->ai_addrlen);
    int saved = errno;
    freeaddrinfo(list);
    return fd >= 0 ? fd : fail(why, "%s:%d: %s", t->host, t->port, strerror(saved));
}

/* --- messages --- */

static int send_all(struct link *l, struct writer *w)
{
    size_t sent = 0;
    int result = w->failed ? fail(l->why, "out of memory") : 0;

    while (result == 0 && sent < w->len) {
        ssize_t n = send(l->fd, w->at + sent, w->len - sent, MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        else if (errno != EINTR)
            result = fail(l->why, "sending to the pooler: %s", strerror(errno));
    }
    writer_free(w);
    return result;
}

static int read_exactly(struct link *l, uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(l->fd, at, len, 0);

        if (n == 0)
            return fail(l->why, "the pooler closed the connection");
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return fail(l->why, "no answer within %d seconds", WAIT_SECONDS);
        if (n < 0)
            return fail(l->why, "receiving from the pooler: %s", strerror(errno));
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int fail_with_error(struct link *l)
{
    struct error_fields e;

    if (read_error(l->body, l->body_len, &e) != 0)
        return fail(l->why, "the pooler sent a malformed error");
    return fail(l->why, "the pooler answers: %.*s (%.*s)", (int)MIN(e.message.len, 400u),
                (const char *)e.message.at, (int)MIN(e.sqlstate.len, 5u),
                (const char *)e.sqlstate.at);
}

/* Reads the next message that matters into l; an ErrorResponse is a failure. */
static int read_message(struct link *l)
{
    for (;;) {
        uint8_t header[FRAME_HEADER];
        struct frame f;

        if (read_exactly(l, header, sizeof header) != 0)
            return -1;
        if (frame_peek(&f, header, sizeof header, MESSAGE_LIMIT) == FRAME_BROKEN)
            return fail(l->why, "what answers there does not speak PostgreSQL's protocol");
        uint8_t *body = realloc(l->body, MAX((size_t)f.body_len, 1u));
        if (body == NULL)
            return fail(l->why, "out of memory");
        l->body = body;
        l->body_len = f.body_len;
        l->type = (char)f.type;
        if (read_exactly(l, l->body, l->body_len) != 0)
            return -1;
        if (l->type == 'E')
            return fail_with_error(l);
        if (l->type != 'N' && l->type != 'S')
            return 0;
    }
}

/* --- authentication --- */

static int answer_md5(struct link *l, struct bytes salt)
{
    const struct snapshot_target *t = l->target;
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

static int answer_sasl(struct link *l)
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

static int answer_sasl_continue(struct link *l, struct bytes challenge)
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

static int answer_request(struct link *l, uint32_t code, struct bytes rest)
{
    if (l->target->password == NULL)
        return fail(l->why, "the pooler asks for a password");
    switch (code) {
    case AUTH_MD5: return answer_md5(l, rest);
    case AUTH_SASL: return answer_sasl(l);
    case AUTH_SASL_CONTINUE: return answer_sasl_continue(l, rest);
    case AUTH_SASL_FINAL:
        if (!l->scram_begun || scram_client_verify(&l->scram, rest, l->why) != 0)
            return fail(l->why, "the pooler does not know the password itself");
        l->scram_verified = true;
        return 0;
    default:
        /* Not AUTH_CLEARTEXT either: the password would go to whoever listens there. */
        return fail(l->why, "the pooler asks for an unsupported authentication (%u)", code);
    }
}

static int authenticate(struct link *l)
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
                       ? fail(l->why, "the pooler ended the login without proof")
                       : 0;
        if (answer_request(l, code, (struct bytes){c.at, cursor_left(&c)}) != 0)
            return -1;
    }
}

static int log_in(struct link *l)
{
    const struct parameter parameters[] = {
        {bytes_of("user"), bytes_of(l->target->user)},
        {bytes_of("database"), bytes_of("pgdoorman")},
        {bytes_of("application_name"), bytes_of("pg_doorman snapshot")},
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
    return 0;
}

/* --- the query --- */

/* One row with one cell; its text is copied. */
static int take_row(struct link *l, char **text, size_t *len)
{
    struct cursor c = cursor_of(l->body, l->body_len);
    uint16_t cells = cursor_u16(&c);
    uint32_t cell_len = cursor_u32(&c);

    if (c.bad || cells != 1 || cell_len > cursor_left(&c) || *text != NULL)
        return fail(l->why, "the pooler's answer is not a snapshot");
    *text = malloc(MAX((size_t)cell_len, 1u));
    if (*text == NULL)
        return fail(l->why, "out of memory");
    memcpy(*text, c.at, cell_len);
    *len = cell_len;
    return 0;
}

static int query(struct link *l, char **text, size_t *len)
{
    struct writer w;

    writer_init(&w);
    write_query(&w, "SNAPSHOT");
    if (send_all(l, &w) != 0)
        return -1;
    do {
        if (read_message(l) != 0)
            return -1;
        if (l->type == 'D' && take_row(l, text, len) != 0)
            return -1;
    } while (l->type != 'Z');
    writer_init(&w);
    write_terminate(&w);
    (void)send_all(l, &w);
    return *text != NULL ? 0 : fail(l->why, "the pooler's answer is empty");
}

int snapshot_fetch(const struct snapshot_target *target, char **text, size_t *len,
                   struct failure *why)
{
    struct link l = {.target = target, .why = why};

    *text = NULL;
    l.fd = target->host[0] == '/' ? connect_unix(target, why) : connect_tcp(target, why);
    if (l.fd < 0)
        return -1;
    int result = log_in(&l) == 0 ? query(&l, text, len) : -1;
    if (result != 0) {
        free(*text);
        *text = NULL;
    }
    explicit_bzero(&l.scram, sizeof l.scram);
    free(l.body);
    close(l.fd);
    return result;
}
