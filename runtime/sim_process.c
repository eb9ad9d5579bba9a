/* Processes of the simulated world: their threads, which wait where the program's do, their end,
 * and the links over which they talk. */
#include "runtime/sim_internal.h"

#include "runtime/coro_switch.h"
#include "runtime/coroutine.h"
#include "runtime/sanitizer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS_MAX = 3, THREAD_STACK = (1 << 20) * SANITIZER_STACK_FACTOR };

/* One that is no worker. */
struct thread {
    bool alive;
    unsigned process;
    struct strand strand;
    uint8_t *stack;
    void (*run)(void *context);
    void *context;
    bool (*ready)(void *context);
    void *ready_context;
    uint64_t until_us;
};

struct sim_packet {
    struct sim_packet *next;
    bool visible;
    size_t len;
    uint8_t *bytes;
    unsigned count;
    struct sim_end *ends[256]; /* NULL: a descriptor of the OS process */
    int fds[256];
};

static struct thread threads[SIM_PROCESSES * THREADS_MAX];
static struct thread *running;
static struct strand outside;
static uint32_t pids = SIM_PID_FIRST;

/* --- threads --- */

/* As in runtime/coroutine.c. */
NO_TSAN static void swap(struct strand *from, struct strand *to, bool for_good)
{
    asan_start_switch(for_good ? NULL : &from->fake_stack, to->floor, to->size);
    tsan_switch_to(to->tsan_fiber);
    coro_swap(&from->sp, to->sp);
    asan_finish_switch(from->fake_stack, NULL, NULL);
}

NO_RETURN static void leave(struct thread *t)
{
    t->alive = false;
    swap(&t->strand, &outside, true);
    abort();
}

NO_TSAN static void thread_main(void *argument)
{
    struct thread *t = argument;

    asan_finish_switch(NULL, NULL, NULL);
    t->run(t->context);
    leave(t);
}

static bool always(void *context)
{
    (void)context;
    return true;
}

void sim_thread(void (*run)(void *context), void *context)
{
    struct thread *t = threads;

    while (t->alive)
        INVARIANT(++t < threads + COUNT_OF(threads));
    uint8_t *stack = t->stack;
    if (stack == NULL)
        stack = mmap(NULL, THREAD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                     0);
    INVARIANT(stack != MAP_FAILED);
    asan_unpoison(stack, THREAD_STACK); /* one that was killed has left its marks */
    *t = (struct thread){.alive = true,
                         .process = sim_process,
                         .stack = stack,
                         .run = run,
                         .context = context,
                         .ready = always};
    t->strand.floor = stack;
    t->strand.size = THREAD_STACK;
    t->strand.tsan_fiber = tsan_create_fiber();
    t->strand.sp = coro_prepare(stack, THREAD_STACK, thread_main, t);
}

static bool thread_ready(struct thread *t)
{
    return t->until_us != 0 && t->until_us <= sim_now_us() ? true : t->ready(t->ready_context);
}

unsigned sim_process_ready(unsigned *out, unsigned size)
{
    unsigned before = sim_process;
    unsigned count = 0;

    for (unsigned i = 0; i < COUNT_OF(threads) && count < size; i++) {
        struct thread *t = &threads[i];

        if (!t->alive || sim_process_stands(t->process))
            continue;
        sim_process = t->process;
        if (thread_ready(t))
            out[count++] = i;
    }
    sim_process = before;
    return count;
}

uint64_t sim_process_next_us(void)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < COUNT_OF(threads); i++) {
        const struct thread *t = &threads[i];

        if (t->alive && t->until_us != 0 && !sim_process_stands(t->process))
            next = MIN(next, t->until_us);
    }
    return next;
}

void sim_process_run(unsigned which)
{
    struct thread *t = &threads[which];

    sim_enter(t->process);
    if (sim_freeze_obey())
        return;
    if (outside.size == 0)
        strand_adopt_thread(&outside);
    running = t;
    swap(&outside, &t->strand, false);
    running = NULL;
}

bool sim_wait(bool (*ready)(void *context), void *context, uint64_t until_us)
{
    struct thread *t = running;

    INVARIANT(t != NULL);
    t->ready = ready;
    t->ready_context = context;
    t->until_us = until_us;
    swap(&t->strand, &outside, false);
    t->until_us = 0;
    return ready(context);
}

/* --- processes --- */

uint32_t sim_pid(void)
{
    return sim_programs[sim_process].pid;
}

uint32_t sim_pid_of(unsigned process)
{
    return sim_programs[process].pid;
}

bool sim_in_thread(void)
{
    return running != NULL;
}

unsigned sim_threads(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < COUNT_OF(threads); i++)
        count += threads[i].alive;
    return count;
}

bool sim_alive(uint32_t pid)
{
    for (unsigned i = 0; i < SIM_PROCESSES; i++) {
        if (pid != 0 && sim_programs[i].pid == pid)
            return true;
    }
    return false;
}

bool sim_process_stands(unsigned process)
{
    return sim_programs[process].stands_until_us > sim_now_us();
}

uint32_t sim_spawn(void (*run)(void *context), void *context, const int *fds, int *given,
                   unsigned count, unsigned *process_out)
{
    unsigned parent = sim_process;
    unsigned process = 0;
    struct sim_end *ends[8];

    while (process < SIM_PROCESSES && sim_programs[process].pid != 0)
        process++;
    INVARIANT(process < SIM_PROCESSES && count <= COUNT_OF(ends));
    for (unsigned i = 0; i < count; i++)
        ends[i] = sim_end_of(fds[i]);
    sim_image_renew(process);
    sim_process = process;
    sim_epolls[process] = 0;
    sim_programs[process] = (struct sim_program){.pid = ++pids};
    for (unsigned i = 0; i < count; i++)
        given[i] = sim_descriptor_give(ends[i]);
    sim_thread(run, context);
    sim_process = parent;
    *process_out = process;
    sim_note("process %u begins", pids);
    return pids;
}

void sim_stand(uint32_t pid, uint64_t until_us)
{
    for (unsigned i = 0; i < SIM_PROCESSES; i++) {
        if (sim_programs[i].pid == pid)
            sim_programs[i].stands_until_us = until_us;
    }
    sim_note("process %u stands still", pid);
    if (running != NULL && sim_pid() == pid)
        sim_wait(always, NULL, 0);
}

/* The process that is present in the tables. */
static void end_process(bool broken, bool all)
{
    struct sim_table *table = sim_table();

    sim_note("process %u ends", sim_pid());
    for (unsigned at = 0; at < table->limit; at++) {
        struct sim_end *e = table->ends[at];

        if (e != NULL && e->kind == SIM_STREAM && broken && (all || e->holders == 1))
            sim_end_break(e);
    }
    sim_programs[sim_process] = (struct sim_program){.pid = 0};
    sim_table_clear();
}

void sim_exit(bool cleanly)
{
    end_process(!cleanly, false);
    for (unsigned i = 0; i < COUNT_OF(threads); i++)
        threads[i].alive &= threads[i].process != sim_process;
    leave(running);
}

void sim_kill(uint32_t pid, bool all)
{
    unsigned before = sim_process;
    struct thread *mine = running;

    if (!sim_alive(pid))
        return;
    sim_process = 0;
    while (sim_programs[sim_process].pid != pid)
        sim_process++;
    end_process(true, all);
    for (unsigned i = 0; i < COUNT_OF(threads); i++)
        threads[i].alive &= threads[i].process != sim_process;
    bool own = mine != NULL && mine->process == sim_process;
    sim_process = before;
    if (own)
        leave(mine);
}

/* --- links --- */

static void packet_visible(void *context)
{
    struct sim_packet *packet = ((struct sim_end *)context)->packets;

    while (packet != NULL && packet->visible)
        packet = packet->next;
    if (packet != NULL)
        packet->visible = true;
}

void sim_link_pair(int ends[2])
{
    struct sim_end *a = sim_end_new(SIM_LINK);
    struct sim_end *b = sim_end_new(SIM_LINK);

    a->peer = b;
    b->peer = a;
    ends[0] = sim_descriptor_give(a);
    ends[1] = sim_descriptor_give(b);
}

int sim_watch(uint32_t pid)
{
    struct sim_end *e = sim_end_new(SIM_WATCH);

    e->watched = pid;
    return sim_descriptor_give(e);
}

bool sim_link_readable(struct sim_end *e)
{
    if (e->kind == SIM_WATCH)
        return !sim_alive(e->watched);
    return e->packets != NULL ? e->packets->visible : e->peer->closed;
}

static void take_fds(struct sim_packet *packet, const struct msghdr *message)
{
    struct cmsghdr *c = message->msg_controllen == 0 ? NULL : CMSG_FIRSTHDR(message);

    if (c == NULL)
        return;
    packet->count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    INVARIANT(packet->count <= COUNT_OF(packet->fds));
    memcpy(packet->fds, CMSG_DATA(c), packet->count * sizeof(int));
    for (unsigned i = 0; i < packet->count; i++) {
        if (packet->fds[i] < SIM_FD_FIRST) {
            packet->fds[i] = dup(packet->fds[i]);
            INVARIANT(packet->fds[i] >= 0);
            continue;
        }
        packet->ends[i] = sim_end_of(packet->fds[i]);
        packet->ends[i]->holders++;
    }
}

ssize_t sim_link_send(int fd, const struct msghdr *message)
{
    struct sim_end *to = sim_end_of(fd)->peer;
    struct sim_packet **last = &to->packets;

    if (to->closed) {
        errno = EPIPE;
        return -1;
    }
    if (sim_chance(50)) {
        errno = EAGAIN;
        return -1;
    }
    struct sim_packet *packet = calloc(1, sizeof *packet);
    INVARIANT(packet != NULL && message->msg_iovlen == 1);
    packet->len = message->msg_iov[0].iov_len;
    packet->bytes = malloc(packet->len + 1);
    INVARIANT(packet->bytes != NULL);
    memcpy(packet->bytes, message->msg_iov[0].iov_base, packet->len);
    take_fds(packet, message);
    while (*last != NULL)
        last = &(*last)->next;
    *last = packet;
    sim_note("link %u: a packet of %zu bytes, %u descriptors", to->number, packet->len,
             packet->count);
    sim_at(sim_now_us() + sim_below(sim_options.delay_us + 1), packet_visible, to);
    return (ssize_t)packet->len;
}

static void give_fds(struct sim_packet *packet, struct msghdr *message)
{
    struct cmsghdr *c = message->msg_control;

    if (packet->count == 0) {
        message->msg_controllen = 0;
        return;
    }
    for (unsigned i = 0; i < packet->count; i++) {
        if (packet->ends[i] == NULL)
            continue;
        packet->fds[i] = sim_descriptor_give(packet->ends[i]);
        packet->ends[i]->holders--; /* it was one on its way */
    }
    INVARIANT(message->msg_controllen >= CMSG_SPACE(packet->count * sizeof(int)));
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(packet->count * sizeof(int));
    memcpy(CMSG_DATA(c), packet->fds, packet->count * sizeof(int));
    message->msg_controllen = CMSG_SPACE(packet->count * sizeof(int));
}

static void packet_free(struct sim_packet *packet)
{
    free(packet->bytes);
    free(packet);
}

ssize_t sim_link_receive(int fd, struct msghdr *message)
{
    struct sim_end *e = sim_end_of(fd);
    struct sim_packet *packet = e->packets;

    if (packet == NULL && e->peer->closed)
        return 0;
    if (packet == NULL || !packet->visible) {
        errno = EAGAIN;
        return -1;
    }
    e->packets = packet->next;
    message->msg_flags = 0;
    ssize_t len = (ssize_t)packet->len;
    INVARIANT(packet->len <= message->msg_iov[0].iov_len);
    memcpy(message->msg_iov[0].iov_base, packet->bytes, packet->len);
    give_fds(packet, message);
    packet_free(packet);
    return len;
}

void sim_link_drop(struct sim_end *e)
{
    while (e->packets != NULL) {
        struct sim_packet *packet = e->packets;

        e->packets = packet->next;
        for (unsigned i = 0; i < packet->count; i++) {
            if (packet->ends[i] != NULL)
                sim_end_drop(packet->ends[i]);
            else
                close(packet->fds[i]);
        }
        packet_free(packet);
    }
}
