/* forwarder.c: a TCP forwarder that knows no protocol, the yardstick for the pooler.
 *
 * One process, one thread, one epoll. Each client gets a connection of its own to the backend,
 * and bytes go both ways through one buffer. In the steady state a message costs one recv, one
 * send and a share of one epoll_wait: descriptors are registered edge-triggered once, and a
 * short read is taken as the end of what there is. That is about the least an epoll program can
 * do, so a pooler is measured in multiples of it.
 *
 * Back-pressure: what a socket does not take is held, and its peer is not read until the held
 * bytes are gone. So a link holds at most one buffer in each direction.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFFER_BYTES (64u * 1024)
#define EVENTS_MAX   256
#define READS_MAX    16 /* full buffers taken from one socket before others have their turn */
#define WATCH        (EPOLLIN | EPOLLRDHUP | EPOLLET)

struct address {
    struct sockaddr_storage sa;
    socklen_t len;
};

/* One socket of a link. `held` are bytes meant for this socket that it did not take yet. */
struct side {
    int fd;
    bool dialling; /* connect() has not finished */
    bool ending;   /* the peer has closed its half; read on to the end */
    bool ended;    /* its end was read and passed on */
    uint8_t *held;
    size_t held_at;
    size_t held_len;
    struct side *peer;
    struct link *link;
};

struct link {
    struct side client;
    struct side server;
    bool dead;
    struct link *next_dead;
};

static struct address backend;
static int poller;
static struct link *graveyard; /* freed after the batch, since later events may name them */
static uint8_t buffer[BUFFER_BYTES];

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "forwarder: %s: %s\n", what, errno != 0 ? strerror(errno) : "bad argument");
    exit(1);
}

static void watch(struct side *s, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};
    if (epoll_ctl(poller, op, s->fd, &ev) != 0)
        die("epoll_ctl");
}

static void link_close(struct link *l)
{
    if (l->dead)
        return;
    l->dead = true;
    close(l->client.fd);
    close(l->server.fd);
    l->next_dead = graveyard;
    graveyard = l;
}

static void bury_dead(void)
{
    while (graveyard != NULL) {
        struct link *l = graveyard;
        graveyard = l->next_dead;
        free(l->client.held);
        free(l->server.held);
        free(l);
    }
}

/* Keeps what `to` did not take and asks to be told when it takes more. */
static void hold(struct side *to, const uint8_t *bytes, size_t len)
{
    if (to->held == NULL && (to->held = malloc(BUFFER_BYTES)) == NULL)
        die("malloc");
    memcpy(to->held, bytes, len);
    to->held_at = 0;
    to->held_len = len;
    watch(to, EPOLL_CTL_MOD, WATCH | EPOLLOUT);
}

/* False: the link is gone. */
static bool deliver(struct side *to, const uint8_t *bytes, size_t len)
{
    ssize_t n = send(to->fd, bytes, len, MSG_NOSIGNAL);
    if (n == (ssize_t)len)
        return true;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        link_close(to->link);
        return false;
    }
    size_t taken = n < 0 ? 0 : (size_t)n;
    hold(to, bytes + taken, len - taken);
    return true;
}

static void pass_end(struct side *from)
{
    from->ended = true;
    shutdown(from->peer->fd, SHUT_WR);
    if (from->peer->ended)
        link_close(from->link);
}

/* Moves bytes from `from` to its peer until there are none, or the peer takes no more. */
static void pump(struct side *from)
{
    struct side *to = from->peer;

    for (int reads = 0; reads < READS_MAX; reads++) {
        if (from->dialling || to->dialling || from->ended || to->held_len > 0)
            return;
        ssize_t n = recv(from->fd, buffer, sizeof(buffer), 0);
        if (n == 0) {
            pass_end(from);
            return;
        }
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                link_close(from->link);
            return;
        }
        if (!deliver(to, buffer, (size_t)n))
            return;
        if ((size_t)n < sizeof(buffer) && !from->ending)
            return;
    }
    /* More may be there, and no new edge will tell: setting the same interest again does. */
    watch(from, EPOLL_CTL_MOD, WATCH | (from->held_len > 0 ? EPOLLOUT : 0));
}

/* False: the link is gone, or the socket is still full. */
static bool flush_held(struct side *s)
{
    ssize_t n = send(s->fd, s->held + s->held_at, s->held_len, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            link_close(s->link);
        return false;
    }
    s->held_at += (size_t)n;
    s->held_len -= (size_t)n;
    if (s->held_len > 0)
        return false;
    watch(s, EPOLL_CTL_MOD, WATCH);
    return true;
}

/* False: the connection to the backend failed, and the link is gone. */
static bool finish_dialling(struct side *server)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(server->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        fprintf(stderr, "forwarder: backend: %s\n", strerror(error));
        link_close(server->link);
        return false;
    }
    server->dialling = false;
    watch(server, EPOLL_CTL_MOD, WATCH);
    return true;
}

static void side_on_event(struct side *s, uint32_t events)
{
    if (s->link->dead)
        return;
    if (s->dialling) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) || !finish_dialling(s))
            return;
        pump(s->peer);
        if (s->link->dead)
            return;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->ending = true;
    if (s->held_len > 0 && (events & EPOLLOUT)) {
        if (flush_held(s))
            pump(s->peer);
        if (s->link->dead)
            return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        pump(s);
}

static void set_nodelay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on Unix sockets: fine */
}

static void link_open(int client_fd)
{
    struct link *l = calloc(1, sizeof(*l));
    if (l == NULL)
        die("calloc");
    l->client = (struct side){.fd = client_fd, .peer = &l->server, .link = l};
    l->server = (struct side){.peer = &l->client, .link = l, .dialling = true};
    l->server.fd = socket(backend.sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->server.fd < 0)
        die("socket");
    set_nodelay(l->client.fd);
    set_nodelay(l->server.fd);
    if (connect(l->server.fd, (const struct sockaddr *)&backend.sa, backend.len) != 0 &&
        errno != EINPROGRESS) {
        fprintf(stderr, "forwarder: backend: %s\n", strerror(errno));
        link_close(l);
        return;
    }
    watch(&l->server, EPOLL_CTL_ADD, WATCH | EPOLLOUT);
    watch(&l->client, EPOLL_CTL_ADD, WATCH);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            link_open(fd);
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR && errno != ECONNABORTED)
            die("accept");
    }
}

/* "/dir/socket", "port" or "host:port"; `host` is what a bare port means. */
static struct address address_parse(const char *text, const char *host)
{
    struct address at = {.len = 0};

    if (text[0] == '/') {
        struct sockaddr_un *un = (struct sockaddr_un *)&at.sa;
        un->sun_family = AF_UNIX;
        int n = snprintf(un->sun_path, sizeof(un->sun_path), "%s", text);
        if (n < 0 || (size_t)n >= sizeof(un->sun_path))
            die(text);
        at.len = sizeof(*un);
        return at;
    }

    char name[256];
    const char *colon = strrchr(text, ':');
    if (colon != NULL) {
        snprintf(name, sizeof(name), "%.*s", (int)(colon - text), text);
        host = name;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, colon != NULL ? colon + 1 : text, &hints, &found);
    if (rc != 0) {
        fprintf(stderr, "forwarder: %s: %s\n", text, gai_strerror(rc));
        exit(1);
    }
    memcpy(&at.sa, found->ai_addr, found->ai_addrlen);
    at.len = found->ai_addrlen;
    freeaddrinfo(found);
    return at;
}

static int listen_at(const struct address *at)
{
    int fd = socket(at->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)&at->sa, at->len) != 0)
        die("bind");
    if (listen(fd, 4096) != 0)
        die("listen");
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

_Noreturn static void serve(int listener)
{
    struct epoll_event events[EVENTS_MAX];
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll_create1");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &ev) != 0)
        die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS_MAX, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listener);
            else
                side_on_event(events[i].data.ptr, events[i].events);
        }
        bury_dead();
    }
}

int main(int argc, char **argv)
{
    const char *from = NULL;
    const char *to = NULL;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--listen") == 0)
            from = argv[i + 1];
        else if (strcmp(argv[i], "--to") == 0)
            to = argv[i + 1];
    }
    if (argc != 5 || from == NULL || to == NULL) {
        fprintf(stderr, "usage: forwarder --listen PORT|HOST:PORT|/SOCKET"
                        " --to HOST:PORT|/SOCKET\n");
        return 2;
    }
    raise_descriptor_limit();
    backend = address_parse(to, "127.0.0.1");
    struct address here = address_parse(from, "127.0.0.1");
    serve(listen_at(&here));
}
