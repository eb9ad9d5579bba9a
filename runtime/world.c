#include "runtime/world.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

const struct world *world_simulated;

int io_socket(int family)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->socket(family);
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int io_connect_begin(int fd, const struct sockaddr *address, socklen_t len)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->connect(fd, address, len);
    return connect(fd, address, len);
}

int io_connect_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->connect_error(fd);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

int io_accept(int fd, struct sockaddr *peer, socklen_t *len)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->accept(fd, peer, len);
    return accept4(fd, peer, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

ssize_t io_send(int fd, const void *at, size_t len)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->send(fd, at, len);
    return send(fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t io_peek(int fd, uint8_t *byte)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->peek(fd, byte);
    return recv(fd, byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

int io_shutdown(int fd, int how)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->shutdown(fd, how);
    return shutdown(fd, how);
}

int io_close(int fd)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->close(fd);
    return close(fd);
}

int io_set_option(int fd, int level, int option, const void *value, socklen_t len)
{
    if (UNLIKELY(world_simulated != NULL))
        return world_simulated->set_option(fd, level, option, value, len);
    return setsockopt(fd, level, option, value, len);
}

uint64_t io_taken(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    int unread = 0;

    if (UNLIKELY(world_simulated != NULL))
        return 0;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        return info.tcpi_bytes_acked;
    return ioctl(fd, SIOCOUTQ, &unread) == 0 ? (uint64_t)unread : 0;
}

void *memory_ask(size_t size)
{
    if (UNLIKELY(world_simulated != NULL) && !world_simulated->memory(size))
        return NULL;
    return malloc(size);
}

void *memory_ask_aligned(size_t alignment, size_t size)
{
    if (UNLIKELY(world_simulated != NULL) && !world_simulated->memory(size))
        return NULL;
    return aligned_alloc(alignment, size);
}
