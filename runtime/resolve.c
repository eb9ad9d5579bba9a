/* Names to addresses, on a helper thread. */
#include "runtime/offload.h"
#include "runtime/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

enum { HOST_MAX = 256, PORT_MAX = 8 };

struct query {
    char host[HOST_MAX];
    char port[PORT_MAX];
    int flags;
    int error; /* of getaddrinfo */
    int system_error;
    struct sockaddr_storage address;
    socklen_t len;
};

static void look_up(void *argument)
{
    struct query *query = argument;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | query->flags};
    struct addrinfo *found = NULL;

    query->error = getaddrinfo(query->host, query->port, &hints, &found);
    query->system_error = errno;
    if (query->error != 0)
        return;
    query->len = found->ai_addrlen;
    memcpy(&query->address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
}

static bool is_literal(const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];

    /* A scope, fe80::1%eth0, makes it no name. */
    return strchr(host, '%') != NULL || inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1;
}

/* Copies the host without its brackets. */
static int query_fill(struct query *query, const char *host, uint16_t port, struct failure *why)
{
    size_t len = strlen(host);
    bool bracketed = len >= 2 && host[0] == '[' && host[len - 1] == ']';

    *query = (struct query){0};
    if (bracketed) {
        host++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof query->host)
        return fail(why, "invalid host name");
    memcpy(query->host, host, len);
    snprintf(query->port, sizeof query->port, "%u", port);
    if (is_literal(query->host))
        query->flags = AI_NUMERICHOST;
    else if (bracketed)
        return fail(why, "\"%s\" is not an IPv6 address", query->host);
    return 0;
}

static int query_answer(const struct query *query, struct sockaddr_storage *address, socklen_t *len,
                        struct failure *why)
{
    if (query->error != 0)
        return fail(why, "cannot resolve \"%s\": %s", query->host,
                    query->error == EAI_SYSTEM ? strerror(query->system_error)
                                               : gai_strerror(query->error));
    *address = query->address;
    *len = query->len;
    return 0;
}

int io_resolve_until(struct worker *w, const char *host, uint16_t port, uint64_t deadline_us,
                     struct sockaddr_storage *address, socklen_t *len, struct failure *why)
{
    struct query *query = malloc(sizeof *query);
    int result = 0;

    INVARIANT(query != NULL);
    if (query_fill(query, host, port, why) != 0) {
        free(query);
        return -1;
    }
    if (query->flags & AI_NUMERICHOST)
        look_up(query);
    else
        result = offload_run_until(w, look_up, query, free, deadline_us);
    if (result == -ETIMEDOUT) /* the helper frees the query */
        return fail(why, "cannot resolve \"%s\": timed out", host);
    if (result != 0)
        result = fail(why, "cannot resolve \"%s\": %s", host, strerror(-result));
    else
        result = query_answer(query, address, len, why);
    free(query);
    return result;
}

int io_resolve(struct worker *w, const char *host, uint16_t port, struct sockaddr_storage *address,
               socklen_t *len, struct failure *why)
{
    return io_resolve_until(w, host, port, 0, address, len, why);
}
