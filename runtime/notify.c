#include "runtime/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
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

static int send_on(int socket_fd, struct msghdr *message)
{
    for (int attempt = 0;; attempt++) {
        struct pollfd wait = {.fd = socket_fd, .events = POLLOUT};
        ssize_t n = sendmsg(socket_fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0)
            return 0;
        if ((errno != EAGAIN && errno != EINTR) || attempt == 2)
            return -1;
        (void)poll(&wait, 1, FULL_WAIT_MS);
    }
}

/* fd -1: no descriptor goes along. */
static int send_state(const char *state, int fd, struct failure *why)
{
    const char *name = socket_name();
    struct sockaddr_un address;
    socklen_t address_len = 0;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)state, strlen(state)};
    int result = 0;

    if (name == NULL)
        return 0;
    if (address_of(&address, &address_len, name, why) != 0)
        return -1;
    struct msghdr message = {
        .msg_name = &address, .msg_namelen = address_len, .msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_fd < 0)
        return fail(why, "%s", strerror(errno));
    if (send_on(socket_fd, &message) != 0)
        result = fail(why, "%s", strerror(errno));
    close(socket_fd);
    return result;
}

int notify_send(const char *state, struct failure *why)
{
    return send_state(state, -1, why);
}

int notify_barrier(int timeout_ms, struct failure *why)
{
    int ends[2];

    if (!notify_wanted())
        return 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return fail(why, "%s", strerror(errno));
    int result = send_state("BARRIER=1", ends[1], why);
    close(ends[1]);
    /* It hangs up when the manager closes its copy. */
    struct pollfd read_by_all = {.fd = ends[0]};
    if (result == 0 && poll(&read_by_all, 1, timeout_ms) <= 0)
        result = fail(why, "it does not read what it is told");
    close(ends[0]);
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

/* --- with words for people --- */

enum { STATUS_MAX = 512 };

/* How many bytes the character there has; 0: it is none. */
static size_t character_bytes(const uint8_t *at, size_t left)
{
    size_t len = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (len == 0 || len > left || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool surrogate = at[0] == 0xed && at[1] > 0x9f;
    bool beyond = at[0] == 0xf4 && at[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : len;
}

/* A line break would begin another assignment, and the manager drops what is not UTF-8. */
static void one_line(char out[STATUS_MAX], const char *text)
{
    size_t left = strlen(text);
    size_t used = 0;

    for (const uint8_t *at = (const uint8_t *)text; left > 0;) {
        size_t len = character_bytes(at, left);
        size_t taken = MAX(len, (size_t)1);

        if (used + taken >= STATUS_MAX)
            break;
        if (len == 0)
            out[used] = '?';
        else if (len == 1)
            out[used] = at[0] < ' ' || at[0] == 0x7f ? ' ' : (char)at[0];
        else
            memcpy(out + used, at, len);
        used += taken;
        at += taken;
        left -= taken;
    }
    while (used > 0 && out[used - 1] == ' ')
        used--;
    out[used] = '\0';
}

int notify_reloading(const char *status, struct failure *why)
{
    char line[STATUS_MAX];
    char state[STATUS_MAX + 64];
    struct timespec now;

    if (!notify_wanted())
        return 0;
    /* By it the manager knows this from the answer to a request before. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    one_line(line, status);
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=%s",
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000, line);
    return notify_send(state, why);
}

int notify_serving(const char *status, struct failure *why)
{
    char line[STATUS_MAX];
    char state[STATUS_MAX + 16];

    if (!notify_wanted())
        return 0;
    one_line(line, status);
    snprintf(state, sizeof state, "READY=1\nSTATUS=%s", line);
    return notify_send(state, why);
}
