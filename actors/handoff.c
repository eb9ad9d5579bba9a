#include "actors/handoff.h"

#include "runtime/world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TEXT_KEY = 15, COMMIT_MAGIC = 0x50474443, COMMIT_VERSION = 1, SEND_WAIT_MS = 2000 };

/* --- packets --- */

static bool is_known(uint64_t kind)
{
    switch (kind) {
    case HANDOFF_HELLO:
    case HANDOFF_HELLO_ACK:
    case HANDOFF_LISTENERS:
    case HANDOFF_READY:
    case HANDOFF_BEGIN:
    case HANDOFF_FDS:
    case HANDOFF_FDS_OK:
    case HANDOFF_END:
    case HANDOFF_PREPARED:
    case HANDOFF_COMMIT:
    case HANDOFF_COMMITTED:
    case HANDOFF_CANCEL:
    case HANDOFF_LEFT:
    case HANDOFF_ERROR:
    case HANDOFF_BYE: return true;
    default: return false;
    }
}

static size_t encode(uint8_t *storage, enum handoff_kind kind, const uint64_t *n, unsigned count,
                     struct bytes text)
{
    static _Atomic uint32_t sequence;
    struct packer p;

    packer_init_fixed(&p, storage, HANDOFF_PACKET_MAX);
    pack_array(&p, 3);
    pack_uint(&p, (uint64_t)kind);
    pack_uint(&p, atomic_fetch_add(&sequence, 1) + 1);
    pack_map(&p, count + (text.len > 0));
    for (unsigned i = 0; i < count; i++) {
        pack_uint(&p, i + 1);
        pack_uint(&p, n[i]);
    }
    if (text.len > 0) {
        pack_uint(&p, TEXT_KEY);
        pack_bin(&p, text.at, text.len);
    }
    return p.failed ? 0 : p.len;
}

/* By what tests call them; those whose loss would be no matter have no name. */
static const char *const send_names[] = {
    [HANDOFF_HELLO] = "send-hello",         [HANDOFF_HELLO_ACK] = "send-ack",
    [HANDOFF_LISTENERS] = "send-listeners", [HANDOFF_READY] = "send-ready",
    [HANDOFF_BEGIN] = "send-begin",         [HANDOFF_FDS] = "send-fds",
    [HANDOFF_FDS_OK] = "send-fds-ok",       [HANDOFF_END] = "send-end",
    [HANDOFF_PREPARED] = "send-prepared",   [HANDOFF_COMMIT] = "send-commit",
};

static ssize_t send_once(int fd, enum handoff_kind kind, const struct msghdr *message)
{
    const char *name = (size_t)kind < COUNT_OF(send_names) ? send_names[kind] : NULL;
    int error = name == NULL ? 0 : handoff_refused(name);

    if (LIKELY(error == 0))
        return handoff_link_send(fd, message);
    errno = error;
    return -1;
}

int handoff_send(int fd, enum handoff_kind kind, const uint64_t *n, unsigned count,
                 struct bytes text, const int *fds, unsigned fd_count, struct failure *why)
{
    uint8_t storage[HANDOFF_PACKET_MAX];
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(HANDOFF_FDS_MAX * sizeof(int))];
    } control = {0};
    size_t len = encode(storage, kind, n, count, text);
    struct iovec iov = {storage, len};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (len == 0 || fd_count > HANDOFF_FDS_MAX)
        return fail(why, "packet %d of the handoff is too large", (int)kind);
    if (fd_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
    }
    while (send_once(fd, kind, &message) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || handoff_wait(fd, POLLOUT, SEND_WAIT_MS) <= 0)
            return fail(why, "cannot send packet %d of the handoff: %s", (int)kind,
                        strerror(errno));
    }
    return 0;
}

void handoff_close_fds(struct handoff_packet *packet)
{
    while (packet->fd_count > 0)
        io_close(packet->fds[--packet->fd_count]);
}

static void take_fds(struct msghdr *message, struct handoff_packet *out)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

        count = MIN(count, (unsigned)HANDOFF_FDS_MAX - out->fd_count);
        memcpy(out->fds + out->fd_count, CMSG_DATA(c), count * sizeof(int));
        out->fd_count += count;
    }
}

static void decode_body(struct unpacker *u, struct handoff_packet *out)
{
    uint32_t pairs = unpack_map(u);

    for (uint32_t i = 0; i < pairs && !u->bad; i++) {
        uint64_t key = unpack_uint(u);

        if (key >= 1 && key <= HANDOFF_NUMBERS)
            out->n[key - 1] = unpack_uint(u);
        else if (key == TEXT_KEY)
            out->text = unpack_bytes(u);
        else
            unpack_skip(u);
    }
}

/* True: it is one for us. */
static bool decode(struct handoff_packet *out, size_t len, enum handoff_got *got,
                   struct failure *why)
{
    struct unpacker u = unpacker_of(out->storage, len);
    uint32_t parts = unpack_array(&u);
    uint64_t kind = unpack_uint(&u);

    unpack_uint(&u);
    *got = HANDOFF_GOT;
    if (!u.bad && parts >= 3 && !is_known(kind) && kind % 2 == 0) {
        handoff_close_fds(out);
        return false;
    }
    decode_body(&u, out);
    out->kind = (enum handoff_kind)kind;
    if (!u.bad && parts >= 3 && is_known(kind))
        return true;
    handoff_close_fds(out);
    fail(why, "packet %llu of the handoff is not understood", (unsigned long long)kind);
    *got = HANDOFF_BAD;
    return true;
}

/* One packet, if there is one. */
static enum handoff_got receive_once(int fd, struct handoff_packet *out, struct failure *why)
{
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(HANDOFF_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {out->storage, sizeof out->storage};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    enum handoff_got got;

    memset(out->n, 0, sizeof out->n);
    out->text = (struct bytes){NULL, 0};
    out->fd_count = 0;
    ssize_t len = handoff_link_receive(fd, &message);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return HANDOFF_TIMEOUT;
    if (len <= 0) {
        fail(why, "%s", len == 0 ? "the other process has closed the connection" : strerror(errno));
        return HANDOFF_GONE;
    }
    take_fds(&message, out);
    if (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
        handoff_close_fds(out);
        fail(why, "descriptors were lost on the way: too many files are open");
        return HANDOFF_BAD;
    }
    return decode(out, (size_t)len, &got, why) ? got : HANDOFF_TIMEOUT;
}

enum handoff_got handoff_receive(int fd, struct handoff_packet *out, int timeout_ms,
                                 struct failure *why)
{
    for (;;) {
        enum handoff_got got = receive_once(fd, out, why);

        if (got != HANDOFF_TIMEOUT)
            return got;
        int count = handoff_wait(fd, POLLIN, timeout_ms);
        if (count == 0)
            return HANDOFF_TIMEOUT;
        if (count < 0 && errno != EINTR) {
            fail(why, "poll: %s", strerror(errno));
            return HANDOFF_GONE;
        }
    }
}

/* --- the page --- */

static struct commit_page *map_page(int fd, const char *name, struct failure *why)
{
    int error = handoff_refused(name);
    void *at = MAP_FAILED;

    if (error == 0)
        at = mmap(NULL, sizeof(struct commit_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    else
        errno = error;
    if (at == MAP_FAILED) {
        fail(why, "cannot map the page of the handoff: %s", strerror(errno));
        return NULL;
    }
    return at;
}

struct commit_page *commit_page_new(int *fd, struct failure *why)
{
    struct commit_page first = {.magic = COMMIT_MAGIC, .version = COMMIT_VERSION};

    *fd = memory_file("pg_doorman-commit", &first, sizeof first, why);
    if (*fd < 0)
        return NULL;
    struct commit_page *page = map_page(*fd, "make-page", why);
    if (page == NULL) {
        close(*fd);
        *fd = -1;
    }
    return page;
}

struct commit_page *commit_page_map(int fd, struct failure *why)
{
    struct commit_page *page = map_page(fd, "map-page", why);

    if (page != NULL && (page->magic != COMMIT_MAGIC || page->version != COMMIT_VERSION)) {
        fail(why, "the page of the handoff has another format");
        commit_page_unmap(page);
        return NULL;
    }
    return page;
}

void commit_page_unmap(struct commit_page *page)
{
    if (page != NULL)
        munmap(page, sizeof *page);
}

int memory_file(const char *name, const void *at, size_t len, struct failure *why)
{
    const uint8_t *from = at;
    int error = handoff_refused("memory");
    int fd = error == 0 ? memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;

    if (fd < 0)
        return fail(why, "cannot create a file in memory: %s",
                    strerror(error == 0 ? errno : error));
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, from + done, len - done, (off_t)done);

        if (n < 0 && errno != EINTR) {
            fail(why, "cannot fill a file in memory: %s", strerror(errno));
            close(fd);
            return -1;
        }
        done += n < 0 ? 0 : (size_t)n;
    }
    /* Its size cannot change under the other's hands. */
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    return fd;
}
