#define LOG_MODULE "pg_doorman::app"
#include "actors/listener.h"

#include "actors/session.h"
#include "runtime/log.h"
#include "runtime/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { ACCEPT_BATCH = 64, PAUSE_US = 10000, COMPLAIN_US = 5000000 };
/* Longer than the kernel waits for a client's first word (listener_tcp.c). */
enum { RETIRE_US = 2000000, RETIRE_LOOK_US = 50000 };

static _Atomic uint32_t next_home;

static struct listener *listener_of(struct actor *a)
{
    return CONTAINER_OF(a, struct listener, actor);
}

void address_text(const struct sockaddr_storage *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->ss_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, address, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, ntohs(in.sin_port));
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, address, sizeof in6);
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, ntohs(in6.sin6_port));
    } else {
        snprintf(out, size, "unix");
    }
}

/* --- clients that arrive --- */

struct arrival {
    struct post post;
    struct sockaddr_storage peer;
    int fd;
};

static void arrived(struct worker *w, struct post *post)
{
    struct arrival *arrival = CONTAINER_OF(post, struct arrival, post);

    session_open(w, arrival->fd, &arrival->peer, w->index);
    free(arrival);
}

/* Workers in turn. A session stays near the worker that it was opened on. */
static void place(struct worker *w, int fd, const struct sockaddr_storage *peer)
{
    uint32_t turn = atomic_fetch_add_explicit(&next_home, 1, memory_order_relaxed);
    struct worker *home = runtime_worker(turn % runtime_workers());

    if (home == w) {
        session_open(w, fd, peer, w->index);
        return;
    }
    struct arrival *arrival = malloc(sizeof *arrival);
    INVARIANT(arrival != NULL);
    *arrival = (struct arrival){.post.run = arrived, .peer = *peer, .fd = fd};
    worker_post(home, &arrival->post);
}

/* While the process drains: on the Unix socket a login is refused in words, and the console is
 * still served. */
static bool turned_away(const struct listener *l, int fd, const struct sockaddr_storage *peer)
{
    char from[80];

    if (l->local || !atomic_load(&app.draining))
        return false;
    address_text(peer, from, sizeof from);
    log_warn("Rejecting connection from %s: pooler shutting down", from);
    io_shutdown(fd, SHUT_RDWR);
    io_close(fd);
    return true;
}

/* --- the actor --- */

static void polled(struct worker *w, struct io_poll *poll, int result)
{
    struct listener *l = CONTAINER_OF(poll, struct listener, poll);

    if (result == -ECANCELED)
        return;
    if (result < 0)
        actor_alarm(w, actor_id_of(&l->actor), w->now_us + PAUSE_US, 0);
    else
        actor_tell_kind(w, actor_id_of(&l->actor), MSG_LISTENER_READY);
}

static void await_clients(struct worker *w, struct listener *l)
{
    /* What had come before a hold ended may have been told behind it. */
    if (l->poll.armed)
        return;
    l->poll.fd = l->fd;
    l->poll.events = POLLIN;
    l->poll.done = polled;
    l->poll.keeps = true;
    w->engine->poll(w, &l->poll);
}

/* A lack of descriptors lasts, and would fill the log. */
static void complain(struct worker *w, struct listener *l, int error)
{
    bool lack = error == EMFILE || error == ENFILE;

    if (lack && l->complained_us != 0 && w->now_us < l->complained_us + COMPLAIN_US)
        return;
    if (lack)
        l->complained_us = w->now_us;
    log_error("Failed to accept new connection: %s (os error %d)", strerror(error), error);
}

/* Accepted TCP sockets inherit the listener's options: set once, they cost a connection nothing. A
 * reload brings others. (Unix sockets inherit none: session_open sets them.) */
static void inherit_options(struct listener *l)
{
    struct config *config = app_config();

    if (!l->local && l->options_of != config) {
        socket_options(l->fd, false, &config->general);
        l->options_of = config;
    }
    config_unref(config);
}

/* False: not now, but in a while. */
static bool accept_clients(struct worker *w, struct listener *l)
{
    inherit_options(l);
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int fd = io_accept(l->fd, (struct sockaddr *)&peer, &len);

        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            complain(w, l, errno);
            return false;
        }
        if (l->local)
            peer.ss_family = AF_UNIX;
        if (!turned_away(l, fd, &peer))
            place(w, fd, &peer);
    }
    return true;
}

/* Never polled: a poll under way would keep the socket open. */
static void retire(struct worker *w, struct listener *l)
{
    if (l->fd < 0)
        return;
    if (l->retire_us == 0)
        l->retire_us = w->now_us + RETIRE_US;
    if (accept_clients(w, l) && w->now_us >= l->retire_us) {
        log_info("%s is not listened on any more", l->address);
        listener_end(l);
        return;
    }
    actor_alarm(w, actor_id_of(&l->actor), w->now_us + RETIRE_LOOK_US, 0);
}

static void listener_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct listener *l = listener_of(self);

    if (l->retires) {
        retire(w, l);
        return;
    }
    switch (m->kind) {
    case MESSAGE_START: await_clients(w, l); break;
    case MSG_LISTENER_HOLD: l->held = true; break;
    case MSG_LISTENER_RESUME:
        l->held = false;
        await_clients(w, l);
        break;
    case MESSAGE_ALARM:
    case MSG_LISTENER_READY:
        if (l->held || l->fd < 0)
            break;
        if (accept_clients(w, l))
            await_clients(w, l);
        else
            actor_alarm(w, actor_id_of(self), w->now_us + PAUSE_US, 0);
        break;
    default: INVARIANT(!"a listener does not understand this kind of message");
    }
}

static uint32_t listener_pack(const struct actor *a, struct packer *out)
{
    const struct listener *l = CONTAINER_OF(a, struct listener, actor);

    pack_str(out, "address");
    pack_str(out, l->address);
    pack_str(out, "local");
    pack_bool(out, l->local);
    return 2;
}

const struct actor_type listener_type = {
    .name = "listener",
    .size = sizeof(struct listener),
    .rank = RANK_ROOT,
    .number = 4,
    .receive = listener_receive,
    .pack = listener_pack,
    .kind_name = message_kind_name,
};

/* --- start and end --- */

struct listener *listener_new(int fd, bool local)
{
    struct listener *l = listener_of(actor_new(&listener_type, 0));
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;

    l->fd = fd;
    l->local = local;
    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        address_text(&address, l->address, sizeof l->address);
    return l;
}

void listener_launch(struct worker *w, struct listener *l)
{
    actor_launch(w, &l->actor);
}

void listener_retire(struct worker *w, struct listener *l)
{
    if (l == NULL)
        return;
    l->retires = true;
    actor_launch(w, &l->actor);
}

void listener_abandon(struct listener *l)
{
    io_close(l->fd);
    l->fd = -1;
}

void listener_end(struct listener *l)
{
    if (l == NULL || l->fd < 0)
        return;
    io_close(l->fd);
    l->fd = -1;
    if (l->local)
        listener_remove_file(l);
}
