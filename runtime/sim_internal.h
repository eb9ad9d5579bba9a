/* sim_internal.h: what the parts of the simulated world share. */
#ifndef RUNTIME_SIM_INTERNAL_H
#define RUNTIME_SIM_INTERNAL_H

#include "runtime/io.h"
#include "runtime/sim.h"
#include "runtime/world.h"

enum { SIM_FD_FIRST = 1000000, SIM_FDS = 4096, SIM_PROCESSES = 2, SIM_PID_FIRST = 100 };

/* Bytes on their way to an end. */
struct sim_pipe {
    uint8_t *bytes;
    size_t len;
    size_t size;
    size_t visible; /* of them, arrived */
    size_t window;  /* how many may be on their way or unread; SIZE_MAX: any */
    uint64_t last_us;
    bool fin; /* the writer has finished */
    bool fin_visible;
    bool reset; /* visible to the reader; nothing comes any more */
    struct sim_arrival *first;
    struct sim_arrival **last;
};

enum sim_kind { SIM_FREE, SIM_LISTENER, SIM_STREAM, SIM_LINK, SIM_WATCH };

/* What one process has in flight at an end, as the kernel keeps it for a descriptor. */
struct sim_ops {
    struct conn *receiver;
    uint16_t receiver_worker;
    bool receiver_stop;
    struct conn *sender;
    uint16_t sender_worker;
    struct io_poll *poll;
    uint16_t poll_worker;
    bool poll_cancelled;
    /* io_sim_epoll.c: where it is registered, and what is new there */
    uint16_t epoll_worker; /* plus one; 0: nowhere */
    uint32_t epoll_events;
    uint32_t epoll_edges;
    uint64_t epoll_data;
    /* who wants to know of a hang-up */
    uint64_t watch_token;
    void (*hung_up)(uint64_t token);
};

/* One end of a link: near, where each process that has a descriptor of it holds it, or far. Never
 * freed. */
struct sim_end {
    enum sim_kind kind;
    unsigned holders; /* descriptors, also those on their way to a process */
    struct sim_far *far;
    struct sim_end *peer; /* NULL: not connected (yet, or it has closed) */
    struct sim_pipe in;
    bool broken; /* by chance */
    bool closed;
    bool shut_read;
    bool shut_write;
    bool local;
    uint32_t number;
    /* connecting */
    bool connecting;
    int connect_error;
    struct sim_ops ops[SIM_PROCESSES]; /* of each process */
    uint32_t user;                     /* the process that used it last; 0: none yet */
    uint32_t users_before;             /* the highest number of one that did before */
    struct sim_packet *packets;        /* a link's, to be received */
    uint32_t watched;                  /* the process whose end a SIM_WATCH sees */
    /* a listener's */
    struct sim_end *backlog[256];
    unsigned backlog_count;
    uint16_t port; /* for peers' addresses */
};

extern struct sim_options sim_options;
extern struct io_engine io_sim_engine;       /* as io_uring */
extern struct io_engine io_sim_epoll_engine; /* io_epoll.c */
extern struct world sim_world;

/* The descriptors of one process. */
struct sim_table {
    struct sim_end *ends[SIM_FDS];
    unsigned limit; /* above the highest in use */
    unsigned streams;
};
extern struct sim_table sim_tables[SIM_PROCESSES];
extern unsigned sim_process; /* whose variables are in place */

/* What the present process has in flight there. */
static inline struct sim_ops *sim_ops(struct sim_end *e)
{
    return &e->ops[sim_process];
}

static inline struct sim_table *sim_table(void)
{
    return &sim_tables[sim_process];
}

/* Where a worker is in its loop. */
struct sim_turn {
    enum { SIM_RUNS, SIM_TURNS, SIM_SLEEPS } where;
    struct worker_progress progress;
    bool woken;
    bool parked;        /* by a freeze */
    struct actor *held; /* in its hands; it is held up until then */
    uint64_t held_until_us;
    unsigned weight;
};

/* Of the program under test there may be two, one of which takes over from the other. */
struct sim_program {
    uint32_t pid; /* 0: there is none */
    unsigned workers;
    struct worker *worker[WORKERS_MAX];
    struct sim_turn turns[WORKERS_MAX];
    uint64_t stands_until_us; /* stopped till then; UINT64_MAX: for ever */
    bool freezing;
    bool stopped; /* its work is done */
};
extern struct sim_program sim_programs[SIM_PROCESSES];

/* sim.c */
void sim_wake(struct worker *w);
/* As sim_at(), for the present process: not if it has ended by then. */
void sim_at_here(uint64_t at_us, void (*run)(void *context), void *context);
void sim_mix(uint64_t value); /* into the hash */
void sim_random(void *out, size_t len);
int sim_help(void (*run)(void *argument), void *argument);
bool sim_memory(size_t size);
void sim_stop(void);

/* sim_process.c: whatever can go on beside the workers of a process: its threads, and orders while
 * it stands still. How many there are; runs one of them, which ends in no process. */
unsigned sim_process_ready(unsigned *out, unsigned size);
void sim_process_run(unsigned which);
uint64_t sim_process_next_us(void);
/* Of a link or watch. */
bool sim_link_readable(struct sim_end *e);
/* Nobody will receive what is on its way to it. */
void sim_link_drop(struct sim_end *e);

/* sim_freeze.c: the present process' workers carry out what its thread has ordered. False: nothing.
 */
bool sim_freeze_obey(void);

/* sim_image.c: a process that begins. */
void sim_image_renew(unsigned process);
extern uint8_t sim_data_begin[64];
extern uint8_t sim_data_end[64];
extern uint8_t sim_zero_begin[64];
extern uint8_t sim_zero_end[64];

/* sim_socket.c: what an engine needs */
/* The lowest number that is free; counts as a holder. */
int sim_descriptor_give(struct sim_end *e);
struct sim_end *sim_end_new(enum sim_kind kind);
/* Both sides may notice that it breaks. */
void sim_end_break(struct sim_end *e);
/* One descriptor less, somewhere. */
void sim_end_drop(struct sim_end *e);
/* All descriptors of the present process are closed, as by the kernel at its end. */
void sim_table_clear(void);
/* How much of `len` a transfer takes this time. */
size_t sim_cut(size_t len);
bool sim_readable(struct sim_end *e);
/* Received: how many, 0 at the end, or -errno. */
ssize_t sim_receive(struct sim_end *e, void *out, size_t size);
bool sim_writable(struct sim_end *e);
/* Taken: how many, or -errno. -EAGAIN when there is no room. */
ssize_t sim_transmit(struct sim_end *e, const struct iovec *iov, unsigned count);

/* io_sim.c */
/* Does an operation of that worker have a result? */
bool sim_engine_ready(unsigned worker);
/* Delivers one of them. False: there is none. */
bool sim_engine_deliver(struct worker *w);

/* io_sim_epoll.c */
bool sim_epoll_ready(unsigned worker);
extern int sim_epolls[SIM_PROCESSES]; /* how many each has made */

#endif
