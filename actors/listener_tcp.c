#define LOG_MODULE "pg_doorman::app"
#include "actors/listener.h"

#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

enum { STATUS_SOCKET = 1, STATUS_LISTEN = 78 };

/* Clients of PostgreSQL speak first, so a connection is worth a look when its first packet is
 * there: one wake-up less for each. One that stays silent is accepted after this time. */
enum { DEFER_ACCEPT_S = 1 };

/* An IPv6 literal stands in brackets. The first address is taken. */
static int resolve(const struct general_config *general, struct sockaddr_storage *out,
                   socklen_t *len, struct failure *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    const char *name = general->host;
    size_t name_len = strlen(name);
    char host[256];
    char port[8];

    if (name_len >= 2 && name[0] == '[' && name[name_len - 1] == ']') {
        name++;
        name_len -= 2;
        hints.ai_flags |= AI_NUMERICHOST;
    }
    snprintf(host, sizeof host, "%.*s", (int)MIN(name_len, sizeof host - 1), name);
    snprintf(port, sizeof port, "%u", (unsigned)general->port);
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0)
        return fail(why, "cannot resolve listen address %s: %s", general->host,
                    error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int prepare(int fd, int family)
{
    struct linger linger = {.l_onoff = 1};
    int tos = IPTOS_LOWDELAY;
    int defer_s = DEFER_ACCEPT_S;
    int on = 1;

    if (family == AF_INET && setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos) != 0)
        log_warn("cannot set the type of service of the listener: %s", strerror(errno));
    if (setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof defer_s) != 0)
        log_warn("cannot defer accepting until a client speaks: %s", strerror(errno));
    /* The port may be shared with a predecessor that drains. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) != 0)
        return -1;
    return 0;
}

struct listener *listener_open_tcp(const struct general_config *general, int *status,
                                   struct failure *why)
{
    uint64_t backlog = general->backlog > 0 ? general->backlog : general->max_connections;
    struct sockaddr_storage address = {0};
    socklen_t len = 0;

    *status = STATUS_SOCKET;
    if (resolve(general, &address, &len, why) != 0)
        return NULL;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail(why, "cannot create a socket: %s", strerror(errno));
        return NULL;
    }
    if (prepare(fd, address.ss_family) != 0 || bind(fd, (struct sockaddr *)&address, len) != 0) {
        fail(why, "cannot bind %s:%u: %s", general->host, (unsigned)general->port, strerror(errno));
        close(fd);
        return NULL;
    }
    if (listen(fd, (int)MIN(MAX(backlog, (uint64_t)1), (uint64_t)INT_MAX)) != 0) {
        *status = STATUS_LISTEN;
        fail(why, "cannot listen on %s:%u: %s", general->host, (unsigned)general->port,
             strerror(errno));
        close(fd);
        return NULL;
    }
    return listener_new(fd, false);
}

bool listener_stands(const struct listener *l, const struct general_config *general)
{
    struct sockaddr_storage wanted = {0};
    struct sockaddr_storage there = {0};
    socklen_t len = 0;
    socklen_t there_len = sizeof there;
    struct failure why;
    char texts[2][sizeof l->address];

    if (general->port == 0 || getsockname(l->fd, (struct sockaddr *)&there, &there_len) != 0)
        return true;
    if (resolve(general, &wanted, &len, &why) != 0) {
        log_warn("%s: it stays where it was, on %s", why.text, l->address);
        return true;
    }
    address_text(&wanted, texts[0], sizeof texts[0]);
    address_text(&there, texts[1], sizeof texts[1]);
    return strcmp(texts[0], texts[1]) == 0;
}

struct listener *listener_adopt(int fd, int *status, struct failure *why)
{
    int flags = fcntl(fd, F_GETFL);
    int listens = 0;
    socklen_t len = sizeof listens;

    *status = STATUS_SOCKET;
    log_info("Inheriting listener from parent process (fd=%d)", fd);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0) {
        fail(why, "cannot use inherited descriptor %d as listener: %s", fd, strerror(errno));
        return NULL;
    }
    if (!listens) {
        fail(why, "inherited descriptor %d does not listen", fd);
        return NULL;
    }
    return listener_new(fd, false);
}
