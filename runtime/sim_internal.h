/* sim_internal.h: what the parts of the simulated world share. */
#ifndef RUNTIME_SIM_INTERNAL_H
#define RUNTIME_SIM_INTERNAL_H

#include "runtime/io.h"
#include "runtime/sim.h"
#include "runtime/world.h"

enum { SIM_FD_FIRST = 1000000, SIM_FDS = 4096 };

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

enum sim_kind { SIM_FREE, SIM_LISTENER, SIM_STREAM };

/* One end of a link: near (fd >= 0) or far. Never freed. */
struct sim_end {
    enum sim_kind kind;
    int fd;
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
    /* what the near side has in flight */
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
    /* a listener's */
    struct sim_end *backlog[256];
    unsigned backlog_count;
    uint16_t port; /* for peers' addresses */
};

extern struct sim_options sim_options;
extern struct io_engine io_sim_engine;       /* as io_uring */
extern struct io_engine io_sim_epoll_engine; /* io_epoll.c */
extern struct world sim_world;
/* The near ends, by descriptor. */
extern struct sim_end *sim_near[SIM_FDS];
extern unsigned sim_near_limit; /* above the highest in use */

/* sim.c */
void sim_wake(struct worker *w);
void sim_mix(uint64_t value); /* into the hash */
void sim_random(void *out, size_t len);
int sim_help(void (*run)(void *argument), void *argument);

/* sim_socket.c: what an engine needs */
struct sim_end *sim_end_of(int fd);
/* How much of `len` a transfer takes this time. */
size_t sim_cut(size_t len);
bool sim_readable(const struct sim_end *e);
/* Received: how many, 0 at the end, or -errno. */
ssize_t sim_receive(struct sim_end *e, void *out, size_t size);
bool sim_writable(const struct sim_end *e);
/* Taken: how many, or -errno. -EAGAIN when there is no room. */
ssize_t sim_transmit(struct sim_end *e, const struct iovec *iov, unsigned count);

/* io_sim.c */
/* Does an operation of that worker have a result? */
bool sim_engine_ready(unsigned worker);
/* Delivers one of them. False: there is none. */
bool sim_engine_deliver(struct worker *w);

/* io_sim_epoll.c */
bool sim_epoll_ready(unsigned worker);

#endif
