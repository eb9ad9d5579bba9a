/* The new process of an upgrade from PgDoorman 3.10. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/migration_receive.h"

#include "actors/handoff_system.h"
#include "actors/migration.h"
#include "actors/session.h"
#include "actors/upgrade.h"
#include "runtime/log.h"
#include "runtime/world.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/mem.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    STATE_BYTES = 64 << 20, /* of one client; what may be in it is less */
    TLS_BYTES = 64 << 10,
    NAME_BYTES = UINT16_MAX / 4, /* a session keeps all four in one block (struct session) */
    FDS = 8,                     /* that a read can bring; there should be one */
};

/* One client on its way. */
struct arrival {
    struct post post;
    uint8_t *state;
    uint32_t len;
    uint32_t tls_len;
    int fd;
    bool local;
};

static int link_fd = -1;
static pthread_t thread;
static _Atomic bool busy;
static _Atomic bool stopped; /* there are no workers any more */
static uint32_t taken;
static uint32_t lost;

/* --- frames --- */

/* Descriptors belong to the first byte of a frame. More than one is none of ours. */
static void keep_fds(struct msghdr *message, struct arrival *a)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        int fds[FDS];

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof *fds, COUNT_OF(fds));
        memcpy(fds, CMSG_DATA(c), count * sizeof *fds);
        for (size_t i = 0; i < count; i++) {
            if (a->fd < 0)
                a->fd = fds[i];
            else
                io_close(fds[i]);
        }
    }
}

/* Exactly so many bytes, so that nothing of the next frame, nor its descriptor, comes with them.
 * 1; 0: the end, before the first of them; -1. */
static int read_exactly(struct arrival *a, void *into, size_t len, struct failure *why)
{
    union {
        struct cmsghdr aligned;
        uint8_t space[CMSG_SPACE(FDS * sizeof(int))];
    } control;
    size_t have = 0;

    while (have < len) {
        struct iovec part = {(uint8_t *)into + have, len - have};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        ssize_t got = recvmsg(link_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

        if (got > 0) {
            keep_fds(&message, a);
            have += (size_t)got;
        } else if (got == 0) {
            return have == 0 ? 0 : fail(why, "the migration socket was closed within a client");
        } else if (errno == EAGAIN) {
            handoff_wait(link_fd, POLLIN, -1);
        } else if (errno != EINTR) {
            return fail(why, "cannot read from the migration socket: %s", strerror(errno));
        }
    }
    return 1;
}

/* Bytes with their length in front of them; the caller's to free, NULL: none. */
static int read_block(struct arrival *a, uint8_t **block, uint32_t *len, uint32_t limit,
                      struct failure *why)
{
    uint8_t head[4];
    int result = read_exactly(a, head, sizeof head, why);

    if (result != 1)
        return result;
    *len = load_be32(head);
    if (*len > limit)
        return fail(why, "a client of %u bytes", *len);
    if (*len == 0)
        return 1;
    *block = malloc(*len);
    INVARIANT(*block != NULL);
    result = read_exactly(a, *block, *len, why);
    return result == 0 ? fail(why, "the migration socket was closed within a client") : result;
}

/* 1: a whole frame, with its descriptor. 0: the end. */
static int read_frame(struct arrival *a, struct failure *why)
{
    uint8_t *tls = NULL;

    int result = read_block(a, &a->state, &a->len, STATE_BYTES, why);
    if (result != 1)
        return result;
    result = read_block(a, &tls, &a->tls_len, TLS_BYTES, why);
    if (tls != NULL)
        OPENSSL_cleanse(tls, a->tls_len);
    free(tls);
    if (result == 0)
        return fail(why, "the migration socket was closed within a client");
    if (result == 1 && a->fd < 0)
        return fail(why, "a client came without its descriptor");
    return result;
}

static void arrival_free(struct arrival *a)
{
    if (a->fd >= 0)
        io_close(a->fd);
    if (a->state != NULL)
        OPENSSL_cleanse(a->state, a->len);
    free(a->state);
    free(a);
}

/* --- is it a client that can be served? --- */

static int socket_number(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* A connection; and its kind. */
static int check_socket(struct arrival *a, struct failure *why)
{
    int domain = socket_number(a->fd, SO_DOMAIN);
    int flags = fcntl(a->fd, F_GETFL);

    if ((domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX) ||
        socket_number(a->fd, SO_TYPE) != SOCK_STREAM || socket_number(a->fd, SO_ACCEPTCONN) != 0)
        return fail(why, "its descriptor is not a connection");
    if (flags < 0 || fcntl(a->fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return fail(why, "cannot use its descriptor: %s", strerror(errno));
    a->local = domain == AF_UNIX;
    return 0;
}

static bool names_fit(const struct migration_client *c)
{
    struct cursor at = cursor_of(c->parameters.at, c->parameters.len);
    struct parameter p;

    while (migration_next_parameter(&at, &p)) {
        if (bytes_equal(p.name, bytes_of("application_name")) && p.value.len >= NAME_BYTES)
            return false;
    }
    return c->user.len < NAME_BYTES && c->database.len < NAME_BYTES;
}

/* PgDoorman 3.10 built without that feature hands over clients with TLS as if they had none. */
static bool has_tls(const struct arrival *a, const struct migration_client *c)
{
    uint8_t first;

    return a->tls_len > 0 || c->tls ||
           (io_peek(a->fd, &first) == 1 && (first == 0x15 || first == 0x17));
}

/* --- taking --- */

static void open_here(struct worker *w, struct post *post)
{
    struct arrival *a = CONTAINER_OF(post, struct arrival, post);

    session_open_migrated(w, a->fd, a->local, a->state, a->len);
    free(a);
}

static void note_client(struct upgrade_status *status, void *context)
{
    const bool *came = context;

    status->sessions += *came;
    status->sessions_left += !*came;
}

static void count(bool came)
{
    taken += came;
    lost += !came;
    upgrade_status_change(note_client, &came);
}

/* Takes the frame over. -1: those that follow would not be understood either. */
static int take(struct arrival *a, struct failure *why)
{
    struct migration_client c = {0};
    enum migration_result result = migration_read((struct bytes){a->state, a->len}, &c, why);

    if (result == MIGRATION_READ && check_socket(a, why) == 0) {
        if (has_tls(a, &c)) {
            log_warn("TLS migration not available; closing fd");
            goto close_it;
        }
        if (names_fit(&c)) {
            a->post.run = open_here;
            worker_post(runtime_worker(taken % runtime_workers()), &a->post);
            count(true);
            return 0;
        }
        fail(why, "its names are too long");
    }
    if (result != MIGRATION_FOREIGN)
        log_error("failed to reconstruct migrated client: %s", why->text);

close_it:
    count(false);
    arrival_free(a);
    return result == MIGRATION_FOREIGN ? -1 : 0;
}

/* --- the thread --- */

static void note_beginning(struct upgrade_status *status, void *context)
{
    (void)context;
    status->predecessor = process_parent();
    snprintf(status->phase, sizeof status->phase, "taking over");
    snprintf(status->result, sizeof status->result, "running");
}

static void note_end(struct upgrade_status *status, void *context)
{
    const struct failure *why = context;

    snprintf(status->phase, sizeof status->phase, "serving");
    snprintf(status->result, sizeof status->result, why == NULL ? "ok" : "aborted");
    if (why != NULL)
        snprintf(status->error, sizeof status->error, "%s", why->text);
}

static void *run(void *argument)
{
    struct failure why;
    int result;

    (void)argument;
    log_info("migration receiver: listening for migrated clients");
    do {
        struct arrival *a = calloc(1, sizeof *a);

        INVARIANT(a != NULL);
        a->fd = -1;
        result = read_frame(a, &why);
        if (result == 1 && atomic_load(&stopped))
            result = 0;
        if (result != 1)
            arrival_free(a);
        else if (take(a, &why) != 0)
            result = -1;
    } while (result == 1);
    if (result == 0)
        log_info("migration receiver done: migration socket closed");
    else
        log_error("migration receiver done: %s", why.text);
    upgrade_status_change(note_end, result == 0 ? NULL : &why);
    /* What is sent from now on fails over there. */
    shutdown(link_fd, SHUT_RDWR);
    log_info("upgrade: took over %u clients of PgDoorman 3.10, %u could not be taken", taken, lost);
    log_info("migration receiver: stopped");
    atomic_store(&busy, false);
    return NULL;
}

int migration_receive_start(int fd, struct failure *why)
{
    link_fd = fd;
    atomic_store(&busy, true);
    upgrade_status_change(note_beginning, NULL);
    int error = handoff_thread_begin(&thread, "migration", run);
    if (error == 0)
        return 0;
    atomic_store(&busy, false);
    io_close(fd);
    link_fd = -1;
    return fail(why, "cannot start the thread that receives clients: %s", strerror(error));
}

bool migration_receive_busy(void)
{
    return atomic_load(&busy);
}

void migration_receive_finish(void)
{
    if (link_fd < 0)
        return;
    atomic_store(&stopped, true);
    shutdown(link_fd, SHUT_RDWR);
    handoff_thread_join(thread);
    io_close(link_fd);
    link_fd = -1;
}
