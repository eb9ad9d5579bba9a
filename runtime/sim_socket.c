/* The sockets of the simulated world. */
#include "runtime/sim_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

/* Bytes that were written together, or the end. */
struct sim_arrival {
    struct sim_arrival *next;
    struct sim_end *to;
    size_t bytes;
    bool fin;
    bool reset;
};

struct place {
    struct sockaddr_storage address;
    socklen_t len;
    bool (*accept)(struct sim_far *far, void *context);
    void *context;
};

struct sim_table sim_tables[SIM_PROCESSES];
static uint32_t numbers;
static struct place places[16];
static unsigned places_count;

/* --- ends --- */

struct sim_end *sim_end_new(enum sim_kind kind)
{
    struct sim_end *e = calloc(1, sizeof *e);

    INVARIANT(e != NULL);
    e->kind = kind;
    e->number = ++numbers;
    e->in.window = SIZE_MAX;
    e->in.last = &e->in.first;
    return e;
}

/* The lowest that is free, as the kernel does. */
int sim_descriptor_give(struct sim_end *e)
{
    struct sim_table *table = sim_table();
    unsigned at = 0;

    while (at < SIM_FDS && table->ends[at] != NULL)
        at++;
    INVARIANT(at < SIM_FDS);
    table->ends[at] = e;
    table->limit = MAX(table->limit, at + 1);
    table->streams += e->kind == SIM_STREAM;
    *sim_ops(e) = (struct sim_ops){.epoll_worker = 0};
    e->holders++;
    return SIM_FD_FIRST + (int)at;
}

struct sim_end *sim_end_of(int fd)
{
    if (fd < SIM_FD_FIRST || fd >= SIM_FD_FIRST + SIM_FDS ||
        sim_table()->ends[fd - SIM_FD_FIRST] == NULL)
        sim_fail("descriptor %d is not open", fd);
    return sim_table()->ends[fd - SIM_FD_FIRST];
}

unsigned sim_near_open(void)
{
    return sim_table()->streams;
}

/* --- pipes --- */

size_t sim_cut(size_t len)
{
    if (len <= 1 || !sim_chance(sim_options.split_per_mille))
        return len;
    return 1 + (size_t)sim_below(sim_chance(300) ? MIN(len, (size_t)8) : len);
}

static void tell_readable(struct sim_end *e)
{
    if (e->far != NULL && !e->closed)
        e->far->readable(e->far);
}

static void hang_up_event(void *context)
{
    struct sim_end *e = context;

    if (sim_ops(e)->hung_up == NULL)
        return;
    sim_note("hang-up of link %u is told", e->number);
    sim_ops(e)->hung_up(sim_ops(e)->watch_token);
}

/* To whoever watches: what a process has watched it goes on watching while another holds it. */
static void tell_hang_up(struct sim_end *e)
{
    unsigned present = sim_process;

    for (sim_process = 0; sim_process < SIM_PROCESSES; sim_process++) {
        if (sim_ops(e)->hung_up != NULL && !e->closed)
            sim_at_here(sim_now_us() + sim_below(3000), hang_up_event, e);
    }
    sim_process = present;
}

static void arrive(void *context)
{
    struct sim_end *e = context;
    struct sim_pipe *p = &e->in;
    struct sim_arrival *a = p->first;

    p->first = a->next;
    if (p->first == NULL)
        p->last = &p->first;
    p->visible += a->bytes;
    bool ends = (a->fin && !p->fin_visible) || (a->reset && !p->reset);
    p->fin_visible |= a->fin;
    p->reset |= a->reset;
    for (unsigned i = 0; i < SIM_PROCESSES; i++)
        e->ops[i].epoll_edges |= UINT32_MAX;
    sim_note("link %u: %zu bytes arrive%s%s", e->number, a->bytes, a->fin ? ", end" : "",
             a->reset ? ", reset" : "");
    free(a);
    if (ends)
        tell_hang_up(e);
    tell_readable(e);
}

static void send_off(struct sim_end *to, size_t bytes, bool fin, bool reset)
{
    struct sim_pipe *p = &to->in;
    struct sim_arrival *a = malloc(sizeof *a);

    INVARIANT(a != NULL);
    *a = (struct sim_arrival){NULL, to, bytes, fin, reset};
    *p->last = a;
    p->last = &a->next;
    uint64_t delay = sim_options.delay_us == 0 ? 0 : sim_below(sim_options.delay_us);
    if (sim_chance(20))
        delay *= 20;
    p->last_us = MAX(p->last_us, sim_now_us() + delay);
    sim_at(p->last_us, arrive, to);
}

static void pipe_put(struct sim_pipe *p, const void *at, size_t len)
{
    if (p->len + len > p->size) {
        p->size = MAX(p->size * 2, p->len + len + 256);
        p->bytes = realloc(p->bytes, p->size);
        INVARIANT(p->bytes != NULL);
    }
    memcpy(p->bytes + p->len, at, len);
    p->len += len;
}

static size_t pipe_take(struct sim_pipe *p, void *out, size_t len)
{
    memcpy(out, p->bytes, len);
    memmove(p->bytes, p->bytes + len, p->len - len);
    p->len -= len;
    p->visible -= len;
    return len;
}

static void trouble(void)
{
    if (sim_options.troubled != NULL)
        sim_options.troubled();
}

/* Both sides learn of it as an error; what is on its way is lost. */
static void break_link(struct sim_end *e)
{
    struct sim_end *peer = e->peer;

    sim_note("link %u breaks", e->number);
    if (peer == NULL)
        return;
    e->broken = true;
    peer->broken = true;
    trouble();
    send_off(e, 0, false, true);
    send_off(peer, 0, false, true);
}

void sim_end_break(struct sim_end *e)
{
    e->broken = true;
    if (e->peer != NULL)
        e->peer->broken = true;
    trouble();
}

static void maybe_break(struct sim_end *e)
{
    if (sim_options.reset_per_mille != 0 && sim_below(100000) < sim_options.reset_per_mille)
        break_link(e);
}

/* --- what engines do --- */

bool sim_descriptor_readable(int fd)
{
    return sim_readable(sim_end_of(fd));
}

bool sim_readable(struct sim_end *e)
{
    if (e->kind == SIM_LINK || e->kind == SIM_WATCH)
        return sim_link_readable(e);
    if (e->kind == SIM_LISTENER)
        return e->backlog_count > 0;
    return e->in.visible > 0 || e->in.fin_visible || e->in.reset || e->shut_read;
}

/* One process at a time has to do with it, and what it has passed on it does not touch again. */
static void touch(struct sim_end *e)
{
    uint32_t pid = sim_pid();

    if (e->user == pid || e->kind != SIM_STREAM)
        return;
    if (pid <= e->users_before)
        sim_fail("link %u: process %u goes on with what is process %u's", e->number, pid, e->user);
    e->users_before = MAX(e->users_before, e->user);
    e->user = pid;
}

ssize_t sim_receive(struct sim_end *e, void *out, size_t size)
{
    struct sim_pipe *p = &e->in;

    touch(e);
    if (p->reset)
        return -ECONNRESET;
    if (p->visible > 0) {
        size_t len = MIN(size, p->visible);

        maybe_break(e);
        /* Whoever works with readiness takes a short read for all there is, as it is. */
        return (ssize_t)pipe_take(p, out, sim_options.readiness ? len : sim_cut(len));
    }
    return p->fin_visible || e->shut_read ? 0 : -EAGAIN;
}

static size_t room(struct sim_end *e)
{
    const struct sim_pipe *out = &e->peer->in;

    return out->window > out->len ? out->window - out->len : 0;
}

/* Or an error is to be had. */
bool sim_writable(struct sim_end *e)
{
    if (e->connecting)
        return false;
    return e->in.reset || e->shut_write || e->peer == NULL || e->peer->closed || room(e) > 0;
}

ssize_t sim_transmit(struct sim_end *e, const struct iovec *iov, unsigned count)
{
    size_t total = 0;

    touch(e);
    if (e->in.reset)
        return -ECONNRESET;
    if (e->shut_write || e->peer == NULL)
        return -EPIPE;
    for (unsigned i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (e->peer->closed) { /* it answers with a reset; the bytes are gone */
        send_off(e, 0, false, true);
        return (ssize_t)total;
    }
    size_t len = MIN(total, room(e));
    if (len == 0)
        return -EAGAIN;
    len = sim_cut(len);
    size_t left = len;
    for (unsigned i = 0; left > 0; i++) {
        size_t part = MIN(left, iov[i].iov_len);

        pipe_put(&e->peer->in, iov[i].iov_base, part);
        left -= part;
    }
    send_off(e->peer, len, false, false);
    maybe_break(e);
    return (ssize_t)len;
}

/* --- the calls of the near side --- */

static int fail_with(int error)
{
    errno = error;
    return -1;
}

static int near_socket(int family)
{
    if (sim_options.refuse_per_mille != 0 && sim_below(10000) < sim_options.refuse_per_mille) {
        trouble();
        return fail_with(EMFILE);
    }
    struct sim_end *e = sim_end_new(SIM_STREAM);
    e->local = family == AF_UNIX;
    return sim_descriptor_give(e);
}

static struct place *place_of(const struct sockaddr *address, socklen_t len)
{
    for (unsigned i = 0; i < places_count; i++) {
        if (places[i].len == len && memcmp(&places[i].address, address, len) == 0)
            return &places[i];
    }
    return NULL;
}

static void join(struct sim_end *near, struct sim_end *far)
{
    near->peer = far;
    far->peer = near;
    far->in.window = far->far->window != 0 ? far->far->window
                     : sim_chance(100)     ? 1 + sim_below(64)
                                           : 256 + sim_below(200000);
}

struct dialling {
    struct sim_end *near;
    struct place *place;
};

static void connected(void *context)
{
    struct dialling d = *(struct dialling *)context;
    struct sim_end *near = d.near;

    free(context);
    if (near->closed || !near->connecting)
        return;
    near->connecting = false;
    near->connect_error = ECONNREFUSED;
    if (d.place == NULL || sim_chance(sim_options.refuse_per_mille)) {
        sim_note("link %u is refused", near->number);
        trouble();
        return;
    }
    struct sim_end *end = sim_end_new(SIM_STREAM);
    struct sim_far *far = calloc(1, sizeof *far);
    INVARIANT(far != NULL);
    end->far = far;
    far->end = end;
    join(near, end);
    sim_note("link %u is open to %u", near->number, end->number);
    if (d.place->accept(far, d.place->context)) {
        near->connect_error = 0;
        return;
    }
    near->peer = NULL;
    end->closed = true;
}

static int near_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    struct sim_end *e = sim_end_of(fd);

    if (e->local && sim_chance(sim_options.refuse_per_mille))
        return fail_with(EAGAIN); /* its backlog is full */
    struct dialling *d = malloc(sizeof *d);
    INVARIANT(d != NULL);
    *d = (struct dialling){e, place_of(address, len)};
    e->connecting = true;
    if (sim_chance(sim_options.refuse_per_mille / 2)) {
        sim_note("link %u gets no answer", e->number);
        trouble();
        free(d);
    } else {
        sim_at(sim_now_us() + sim_below(sim_options.delay_us * 4 + 100), connected, d);
    }
    return fail_with(EINPROGRESS);
}

static int near_connect_error(int fd)
{
    return sim_end_of(fd)->connect_error;
}

static int near_accept(int fd, struct sockaddr *peer, socklen_t *len)
{
    struct sim_end *l = sim_end_of(fd);

    if (l->backlog_count == 0)
        return fail_with(EAGAIN);
    if (sim_options.refuse_per_mille != 0 && sim_below(10000) < sim_options.refuse_per_mille)
        return fail_with(EMFILE);
    struct sim_end *e = l->backlog[0];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(++l->port), .sin_addr.s_addr = htonl(0x0a000001)};
    l->backlog_count--;
    memmove(&l->backlog[0], &l->backlog[1], l->backlog_count * sizeof l->backlog[0]);
    if (e->local)
        address = (struct sockaddr_in){.sin_family = AF_UNIX};
    memcpy(peer, &address, MIN((socklen_t)sizeof address, *len));
    int given = sim_descriptor_give(e);
    sim_note("link %u is accepted as %d", e->number, given);
    return given;
}

static ssize_t near_send(int fd, const void *at, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)at, len};
    ssize_t result = sim_transmit(sim_end_of(fd), &iov, 1);

    return result < 0 ? fail_with((int)-result) : result;
}

static ssize_t near_peek(int fd, uint8_t *byte)
{
    struct sim_end *e = sim_end_of(fd);

    if (e->in.reset)
        return fail_with(ECONNRESET);
    if (e->in.visible > 0) {
        *byte = e->in.bytes[0];
        return 1;
    }
    return e->in.fin_visible ? 0 : fail_with(EAGAIN);
}

static int near_shutdown(int fd, int how)
{
    struct sim_end *e = sim_end_of(fd);

    touch(e);
    if (how != SHUT_WR)
        e->shut_read = true;
    if (how == SHUT_RD || e->shut_write)
        return 0;
    e->shut_write = true;
    if (e->peer != NULL && !e->peer->closed)
        send_off(e->peer, 0, true, false);
    return 0;
}

void sim_end_drop(struct sim_end *e)
{
    if (--e->holders > 0)
        return;
    e->closed = true;
    if (e->kind == SIM_LINK)
        sim_link_drop(e);
    for (unsigned i = 0; i < e->backlog_count; i++) { /* nobody will accept them */
        sim_end_break(e->backlog[i]);
        e->backlog[i]->closed = true;
        send_off(e->backlog[i]->peer, 0, false, true);
    }
    if (e->peer == NULL || e->peer->closed || e->kind == SIM_LINK)
        return;
    /* With bytes unread, the peer gets a reset; it may lose what it has not read. */
    bool unread = e->in.len > 0;
    if (unread || !e->shut_write)
        send_off(e->peer, 0, !unread, unread);
}

static void table_drop(unsigned at)
{
    struct sim_table *table = sim_table();
    struct sim_end *e = table->ends[at];

    table->ends[at] = NULL;
    table->streams -= e->kind == SIM_STREAM;
    sim_note("descriptor %d of link %u is closed", SIM_FD_FIRST + (int)at, e->number);
    sim_end_drop(e);
}

static int near_close(int fd)
{
    if (fd < SIM_FD_FIRST) /* memory that two processes share */
        return close(fd);
    struct sim_end *e = sim_end_of(fd);
    struct sim_ops *ops = sim_ops(e);

    /* A listener's poll ends when the last process closes it. */
    if (ops->receiver != NULL || ops->sender != NULL ||
        (ops->poll != NULL && e->kind != SIM_LISTENER))
        sim_fail("descriptor %d is closed with operations in flight", fd);
    if (ops->epoll_worker != 0 && e->kind != SIM_LISTENER && e->holders > 1)
        sim_fail("descriptor %d is closed, but will go on to be told of", fd);
    ops->poll = NULL;
    ops->epoll_worker = 0;
    table_drop((unsigned)(fd - SIM_FD_FIRST));
    return 0;
}

void sim_table_clear(void)
{
    for (unsigned at = 0; at < sim_table()->limit; at++) {
        struct sim_end *e = sim_table()->ends[at];

        if (e == NULL)
            continue;
        *sim_ops(e) = (struct sim_ops){.epoll_worker = 0};
        table_drop(at);
    }
    sim_table()->limit = 0;
}

static int near_set_option(int fd, int level, int option, const void *value, socklen_t len)
{
    (void)level;
    (void)option;
    (void)value;
    (void)len;
    sim_end_of(fd);
    return 0;
}

static void near_watch(int fd, uint64_t token, void (*hung_up)(uint64_t token))
{
    struct sim_end *e = sim_end_of(fd);

    sim_ops(e)->watch_token = token;
    sim_ops(e)->hung_up = hung_up;
    if (e->in.fin_visible || e->in.reset)
        tell_hang_up(e);
}

struct world sim_world = {
    .engine = &io_sim_engine,
    .clock_us = sim_now_us,
    .random = sim_random,
    .help = sim_help,
    .memory = sim_memory,
    .stop = sim_stop,
    .socket = near_socket,
    .connect = near_connect,
    .connect_error = near_connect_error,
    .accept = near_accept,
    .send = near_send,
    .peek = near_peek,
    .shutdown = near_shutdown,
    .close = near_close,
    .set_option = near_set_option,
    .watch = near_watch,
};

/* --- far ends --- */

void sim_far_listen(const struct sockaddr *address, socklen_t len,
                    bool (*accept)(struct sim_far *far, void *context), void *context)
{
    INVARIANT(places_count < COUNT_OF(places));
    struct place *place = &places[places_count++];

    *place = (struct place){.len = len, .accept = accept, .context = context};
    memcpy(&place->address, address, len);
}

int sim_near_listen(void)
{
    return sim_descriptor_give(sim_end_new(SIM_LISTENER));
}

bool sim_far_connect(struct sim_far *far, struct sim_end *l, bool local)
{
    if (l->closed || l->kind != SIM_LISTENER || l->backlog_count == COUNT_OF(l->backlog))
        return false;
    struct sim_end *near = sim_end_new(SIM_STREAM);
    far->end = sim_end_new(SIM_STREAM);
    far->end->far = far;
    near->local = local;
    join(near, far->end);
    l->backlog[l->backlog_count++] = near;
    sim_note("link %u: a far end calls as %u", near->number, far->end->number);
    return true;
}

void sim_far_write(struct sim_far *far, const void *at, size_t len)
{
    struct sim_end *e = far->end;
    const uint8_t *from = at;

    while (len > 0 && !e->closed && e->peer != NULL && !e->peer->closed && !e->in.reset) {
        size_t part = sim_cut(len);

        pipe_put(&e->peer->in, from, part);
        send_off(e->peer, part, false, false);
        from += part;
        len -= part;
    }
}

ssize_t sim_far_read(struct sim_far *far, void *out, size_t size)
{
    struct sim_pipe *p = &far->end->in;

    /* What came before a reset may be read, or be lost with it. */
    if (p->visible > 0 && !(p->reset && sim_chance(300)))
        return (ssize_t)pipe_take(p, out, sim_cut(MIN(size, p->visible)));
    if (p->reset)
        return -2;
    return p->fin_visible ? -1 : 0;
}

void sim_far_finish(struct sim_far *far)
{
    struct sim_end *e = far->end;

    if (e->closed || e->shut_write)
        return;
    e->shut_write = true;
    if (e->peer != NULL && !e->peer->closed)
        send_off(e->peer, 0, true, false);
}

void sim_far_close(struct sim_far *far)
{
    struct sim_end *e = far->end;

    if (e->closed)
        return;
    if (e->in.len > 0) {
        sim_far_reset(far);
        return;
    }
    sim_far_finish(far);
    e->closed = true;
}

void sim_far_reset(struct sim_far *far)
{
    struct sim_end *e = far->end;

    if (e->closed)
        return;
    e->closed = true;
    if (e->peer != NULL && !e->peer->closed)
        send_off(e->peer, 0, false, true);
}

bool sim_far_broken(const struct sim_far *far)
{
    return far->end->broken;
}

bool sim_far_held(const struct sim_far *far)
{
    return far->end->peer != NULL && !far->end->peer->closed;
}
