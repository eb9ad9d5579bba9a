#include "runtime/notify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FULL_WAIT_MS = 200 };

static const char *socket_name(void)
{
    const char *name = getenv("NOTIFY_SOCKET");

    return name != NULL && name[0] != '\0' ? name : NULL;
}

bool notify_wanted(void)
{
    return socket_name() != NULL;
}

/* An abstract name is written with '@' in the place of its leading NUL, and has none at its end. */
static int address_of(struct sockaddr_un *out, socklen_t *out_len, const char *name,
                      struct failure *why)
{
    size_t len = strlen(name);

    if (name[0] != '/' && name[0] != '@')
        return fail(why, "NOTIFY_SOCKET is neither a path nor an abstract name: %s", name);
    if (len >= sizeof out->sun_path)
        return fail(why, "NOTIFY_SOCKET is too long: %s", name);
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, name, len);
    if (name[0] == '@')
        out->sun_path[0] = '\0';
    *out_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
    return 0;
}

static int send_on(int fd, const struct sockaddr_un *address, socklen_t address_len,
                   const char *state)
{
    for (int attempt = 0;; attempt++) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        ssize_t n = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                           (const struct sockaddr *)address, address_len);

        if (n >= 0)
            return 0;
        if ((errno != EAGAIN && errno != EINTR) || attempt == 2)
            return -1;
        (void)poll(&wait, 1, FULL_WAIT_MS);
    }
}

int notify_send(const char *state, struct failure *why)
{
    const char *name = socket_name();
    struct sockaddr_un address;
    socklen_t address_len = 0;
    int result = 0;

    if (name == NULL)
        return 0;
    if (address_of(&address, &address_len, name, why) != 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(why, "%s", strerror(errno));
    if (send_on(fd, &address, address_len, state) != 0)
        result = fail(why, "%s", strerror(errno));
    close(fd);
    return result;
}

int notify_ready(struct failure *why)
{
    return notify_send("READY=1", why);
}

int notify_main_pid(int pid, struct failure *why)
{
    char state[32];

    snprintf(state, sizeof state, "MAINPID=%d", pid);
    return notify_send(state, why);
}

int notify_status(const char *text, struct failure *why)
{
    char state[256];

    snprintf(state, sizeof state, "STATUS=%s", text);
    return notify_send(state, why);
}
