/* sim.h: a world on one thread, in which chance decides what happens next.
 *
 * Time is virtual and stands still while there is something to do, but for a little at each step;
 * then it jumps to whatever comes next. Sockets are memory: bytes arrive after a delay, in pieces
 * of any size. All workers run on the calling thread, one handler at a time; which one is next,
 * which bytes arrive, which operation ends: one generator draws it all from one seed, so that a
 * seed is a run. Nothing depends on addresses or on real time; sim_hash() is the same whenever a
 * seed is run again.
 *
 * Near is what the program under test has: descriptors, actors, workers. Far is what it talks to:
 * plain callbacks, which run outside of the workers.
 *
 * Not thread-safe, one per OS process. Never part of the production program.
 */
#ifndef RUNTIME_SIM_H
#define RUNTIME_SIM_H

#include "runtime/worker.h"

#include <sys/socket.h>

struct sim_options {
    uint64_t seed; /* this and trace are set by sim_begin() */
    unsigned workers;
    unsigned delay_us;         /* of bytes on their way, at most */
    unsigned split_per_mille;  /* of transfers: to be cut at a random byte */
    unsigned step_us;          /* what a step may take, at most */
    unsigned hold_per_mille;   /* of steps: the worker is held up, with an actor in its hands */
    unsigned reset_per_mille;  /* of 100,000 transfers: the link breaks */
    unsigned refuse_per_mille; /* of connects: refused, or never answered */
    unsigned memory_per_mille; /* of what asks for memory and can do without: refused */
    bool readiness;            /* the engine works as epoll does; else as io_uring does */
    bool trace;
    /* After each step: may look at everything. */
    void (*checked)(void);
    /* Something was refused or broken. */
    void (*troubled)(void);
    /* A thread of a process is about to do something that others notice. */
    void (*point)(const char *name);
};

/* From here on chance follows the seed. trace: each step is told on stdout. */
void sim_begin(uint64_t seed, bool trace);
/* Before runtime_init(); takes the kernel's place for good. */
void sim_configure(const struct sim_options *options);
/* Behind runtime_init(), in place of runtime_start(). */
void sim_start(void);
/* One step. False: nothing will ever happen any more. */
MUST_CHECK bool sim_step(void);
/* The program has said that it is to end. The world goes on, so that what was begun is seen to end.
 */
bool sim_stopped(void);
uint64_t sim_steps(void);
uint64_t sim_hash(void);
/* From now on nothing is refused, reset or held up. */
void sim_calm(void);
/* Nor memory, now already. */
void sim_plenty(void);
/* Notes something in the hash and in the trace. */
PRINTF_LIKE(1, 2) void sim_note(const char *format, ...);
/* Ends the process with status 1 and this text, the seed, and the last messages. */
NO_RETURN PRINTF_LIKE(1, 2) void sim_fail(const char *format, ...);

/* --- chance --- */
uint64_t sim_draw(void);
uint64_t sim_below(uint64_t n); /* 0 to n - 1; n > 0 */
bool sim_chance(unsigned per_mille);

/* --- time --- */
uint64_t sim_now_us(void);
/* Calls run(context) at that time or later, outside of the workers. */
void sim_at(uint64_t at_us, void (*run)(void *context), void *context);
/* On a worker: as a post. */
void sim_on_worker(unsigned index, void (*run)(struct worker *w, void *context), void *context);

/* --- processes of the program: at most two live at a time --- */
/* Before anything: as the program's variables are now, a process begins. */
void sim_images_begin(void);
/* Whose variables are in place: 0 or 1. */
extern unsigned sim_process;
void sim_enter(unsigned process);
/* Of that process; 0: it has ended. */
uint32_t sim_pid(void);
uint32_t sim_pid_of(unsigned process);
/* Does such a thread run, and not a worker? */
bool sim_in_thread(void);
/* Of all processes. */
unsigned sim_threads(void);
bool sim_alive(uint32_t pid);
/* Does it stand still? */
bool sim_process_stands(unsigned process);
/* A new one, on whose first thread run() is called, with these descriptors of the caller's; their
 * numbers there are given. Its number. */
uint32_t sim_spawn(void (*run)(void *context), void *context, const int *fds, int *given,
                   unsigned count, unsigned *process);
/* It ends at once. Does not return if it is the caller's. Connections that it alone has break; with
 * `all`, all that it has: another that has them may close them without a word. */
void sim_kill(uint32_t pid, bool all);
/* The caller's ends by itself. Cleanly: whoever is cut off may complain. */
NO_RETURN void sim_exit(bool cleanly);
/* It stands still till then. */
void sim_stand(uint32_t pid, uint64_t until_us);
/* The present process, in place of runtime_init()'s preparations: it lives in this world. */
void sim_join(void);
/* How many workers each has. */
unsigned sim_workers(void);
/* A thread of the present process that is no worker. */
void sim_thread(void (*run)(void *context), void *context);
/* On such a thread: waits until ready() or that time (0: for ever). Whether it is ready. */
bool sim_wait(bool (*ready)(void *context), void *context, uint64_t until_us);
/* Two descriptors for packets from one to the other; as sendmsg() and recvmsg(). */
void sim_link_pair(int ends[2]);
ssize_t sim_link_send(int fd, const struct msghdr *message);
ssize_t sim_link_receive(int fd, struct msghdr *message);
/* A descriptor that is readable when that process has ended. */
int sim_watch(uint32_t pid);
/* Is there something to be received? */
bool sim_descriptor_readable(int fd);

/* --- far ends --- */
struct sim_far {
    /* Bytes have come, or the end: sim_far_read() tells. */
    void (*readable)(struct sim_far *far);
    void *context;
    struct sim_end *end;
    size_t window; /* how much may be on its way to it, or unread; 0: drawn */
};
/* Somebody listens at this address. accept() is called for each connection that the near side opens
 * and fills in the far end. False: it is refused. */
void sim_far_listen(const struct sockaddr *address, socklen_t len,
                    bool (*accept)(struct sim_far *far, void *context), void *context);
/* A near descriptor that listens; for a listener. */
int sim_near_listen(void);
/* What a near descriptor stands for, in whichever process. */
struct sim_end *sim_end_of(int fd);
/* A far end connects to it; `far` is the caller's, with its callbacks set. The peer's address is
 * made up. False: nobody listens any more. */
bool sim_far_connect(struct sim_far *far, struct sim_end *listener, bool local);
/* Takes all of it; it arrives later. */
void sim_far_write(struct sim_far *far, const void *at, size_t len);
/* What has arrived, at most `size`: how much; 0: nothing now; -1: the end; -2: reset. */
ssize_t sim_far_read(struct sim_far *far, void *out, size_t size);
/* No more is written. */
void sim_far_finish(struct sim_far *far);
void sim_far_close(struct sim_far *far);
/* Without a farewell; what is on its way is lost. */
void sim_far_reset(struct sim_far *far);
/* Was the link broken by chance? */
bool sim_far_broken(const struct sim_far *far);
/* Has the near side still a descriptor for it? */
bool sim_far_held(const struct sim_far *far);
/* How many descriptors the near side has, without those that listen. */
unsigned sim_near_open(void);

#endif
