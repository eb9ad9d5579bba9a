#define LOG_MODULE "pg_doorman::app"
#include "actors/app.h"

#include "runtime/log.h"
#include "runtime/world.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static int as_int(uint64_t value)
{
    return (int)MIN(value, (uint64_t)INT_MAX);
}

static void set(int fd, int level, int option, const char *name, uint64_t value)
{
    int number = as_int(value);

    if (io_set_option(fd, level, option, &number, sizeof number) != 0)
        log_warn("Failed to set socket option %s to %d: %s", name, number, strerror(errno));
}

static void set_linger(int fd, uint64_t seconds)
{
    struct linger linger = {.l_onoff = 1, .l_linger = as_int(seconds)};

    if (io_set_option(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) != 0)
        log_warn("Failed to set socket option SO_LINGER: %s", strerror(errno));
}

static void set_buffers(int fd, uint64_t bytes)
{
    if (bytes == 0)
        return; /* the kernel sizes them by need */
    set(fd, SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF", bytes);
    set(fd, SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF", bytes);
}

void socket_options(int fd, bool local, const struct general_config *general)
{
    set_linger(fd, general->tcp_so_linger);
    if (local) {
        set_buffers(fd, general->unix_socket_buffer_size);
        return;
    }
    set(fd, IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", general->tcp_no_delay);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE", 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE", general->tcp_keepalives_idle);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL", general->tcp_keepalives_interval);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT", general->tcp_keepalives_count);
    if (general->tcp_user_timeout > 0)
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT",
            MIN(general->tcp_user_timeout, (uint64_t)INT_MAX / 1000) * 1000);
    set_buffers(fd, general->tcp_socket_buffer_size);
}
