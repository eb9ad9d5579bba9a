/* io.h: connections, and what an I/O engine must do for them.
 *
 * A connection belongs to one actor at a time (`owner`). It has at most one receive and one send
 * in flight, each in the hands of the worker that armed it; results come to the owner as
 * MESSAGE_RECV and MESSAGE_SENT, run inline when it is idle, through its mailbox when not. Or a
 * coroutine waits for them (conn_read, conn_write). A connection changes owner only when nothing
 * is in flight: asserted.
 */
#ifndef RUNTIME_IO_H
#define RUNTIME_IO_H

#include "runtime/worker.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum conn_flags {
    CONN_RECV_ARMED = 1,
    CONN_SENDING = 2,
    CONN_CLOSING = 4,
    CONN_OPEN = 8,
    CONN_BULK = 16,        /* last receive filled its block: use large ones */
    CONN_MORE = 32,        /* the socket is known to hold more */
    CONN_WANT_SENT = 64,   /* the owner asked for MESSAGE_SENT */
    CONN_REGISTERED = 128, /* epoll: in the set of `worker` */
    CONN_RECV_HELD = 256,  /* the receive was taken back for a while (conn_hold) */
    CONN_SEND_HELD = 512,  /* so was the send */
    CONN_RECV_DUE = 2048,  /* the armed receive has ended, its result waits in the mailbox */
    CONN_SENT_DUE = 4096,  /* so has the send */
    CONN_RECV_STOP = 8192, /* the armed receive is being taken back */
};

/* epoll: what is known of the socket. Set by whoever sees an event, unlike the flags. */
enum conn_ready {
    READY_EDGE = 1,   /* readable as far as known */
    READY_HANGUP = 2, /* the peer has finished sending */
    READY_LISTED = 4, /* in a worker's list of those known ready */
};

enum { OUTPUT_SLICES = 16 };

/* Bytes on their way out: slices of received blocks, in order. Taken from the worker's cache when
 * there is something to send, given back when all was sent. */
struct output {
    struct output *next; /* free list, or the overflow of a long queue */
    uint16_t first;
    uint16_t count;
    struct iovec iov[OUTPUT_SLICES];
    struct rbuf *buf[OUTPUT_SLICES];
    struct rbuf *copies; /* where conn_put_copy puts bytes */
    uint32_t copies_used;
    uint32_t in_flight;    /* io_uring: bytes of the send in flight */
    uint16_t quiet_worker; /* io_uring: whose success posts no completion: worker plus one, or 0 */
    uint16_t quiet_slot;
    bool blocked;         /* io_uring: the socket was full */
    struct msghdr header; /* of the send in flight */
};

struct conn {
    int fd;
    _Atomic uint16_t flags;  /* enum conn_flags; written in the owner's hands only */
    _Atomic uint16_t ready;  /* enum conn_ready */
    _Atomic uint16_t worker; /* that armed the receive (epoll: where it is registered) */
    _Atomic uint32_t epoch;  /* so that a late readiness event is told from a new connection's */
    _Atomic(struct actor *) owner;
    struct output *out;
    struct output *out_last;
    uint32_t out_bytes;
    _Atomic uint16_t waiting; /* the worker of a coroutine that waits for it, plus one; 0: none */
    struct conn_wait *waiter; /* that coroutine's; for its worker only */
};

/* --- for actors; all non-blocking --- */
/* Takes the descriptor over (non-blocking, close-on-exec). */
void conn_open(struct conn *c, int fd, struct actor *owner);
/* Arms one receive on this worker, unless one is armed. */
void conn_recv(struct worker *w, struct conn *c);
/* Takes an armed receive back. True: none is armed now. False: MESSAGE_RECV follows, with
 * -ECANCELED or what came in between. */
bool conn_recv_stop(struct worker *w, struct conn *c);
/* The next byte that waits in the socket, without taking it; -EAGAIN when there is none, -ENODATA
 * at the end. One system call. Nothing may be in flight. */
int conn_peek(const struct conn *c);
/* Appends a slice; takes a reference on buf. Nothing is sent before conn_flush. */
void conn_put(struct worker *w, struct conn *c, struct rbuf *buf, const uint8_t *at, uint32_t len);
/* Appends a copy. */
void conn_put_copy(struct worker *w, struct conn *c, const void *at, size_t len);
/* Starts sending what was put, unless a send is in flight (then it goes on by itself). An error
 * comes as MESSAGE_SENT; success only when it was asked for with conn_want_sent(). */
void conn_flush(struct worker *w, struct conn *c);
/* In the owner's hands. Reading needs no such care: `c->flags & …` */
static inline void conn_flags_change(struct conn *c, unsigned set, unsigned clear)
{
    unsigned flags = atomic_load_explicit(&c->flags, memory_order_relaxed);

    /* Release: who sees a receive armed sees by whom (conn_admit). */
    atomic_store_explicit(&c->flags, (uint16_t)((flags & ~clear) | set), memory_order_release);
}
static inline bool conn_sent_all(const struct conn *c)
{
    return c->out == NULL;
}
/* One MESSAGE_SENT when the output is empty; only while it is not. */
void conn_want_sent(struct worker *w, struct conn *c);
/* Forgets what was put and is not in flight. */
void conn_drop_output(struct worker *w, struct conn *c);
/* Ends it. True: closed now. False: MESSAGE_CLOSED follows when the operations in flight are
 * over. Unsent output is dropped. */
bool conn_close(struct worker *w, struct conn *c);
/* Hands it to another actor, which may be run with it from here on. Nothing may be in flight, and
 * the present owner does not touch it any more: the caller runs in its hands, or was told so. */
void conn_give(struct conn *c, struct actor *owner);
static inline bool conn_is_open(const struct conn *c)
{
    return (c->flags & CONN_OPEN) != 0;
}
static inline bool conn_quiet(const struct conn *c)
{
    return (c->flags & (CONN_RECV_ARMED | CONN_SENDING)) == 0 && c->out == NULL;
}

/* --- while the world stands (runtime/freeze.h) --- */
/* Takes back what is in flight at this worker; on every worker. What has come by now waits in the
 * owners' mailboxes afterwards, what was not sent is in the output. Connections for which a
 * coroutine waits, and those that are closing, must not be among them. First for receives, then,
 * when every worker has done that, for sends. */
void conn_hold(struct worker *w, struct conn *const *conns, size_t count, bool sends);
/* On every worker: things go on as if nothing had been. */
void conn_resume(struct worker *w, struct conn *const *conns, size_t count);
/* Does nothing of it lie in the kernel? */
bool conn_at_rest(const struct worker *w, const struct conn *c);
/* Closes the descriptor, which another process has as well: nothing is told to the peer, what was
 * not sent is dropped, and what waits in the mailbox will not be seen. */
void conn_abandon(struct worker *w, struct conn *c);

/* --- for coroutines; they wait, at most until deadline_us (0 = for ever) --- */
/* The next bytes, in a block that is the caller's: how many, 0 at the end, -errno, -ETIMEDOUT.
 * After a timeout the connection can only be closed. */
int64_t conn_read(struct worker *w, struct conn *c, struct rbuf **buf, uint64_t deadline_us);
/* All of it: 0, -errno, -ETIMEDOUT. */
int64_t conn_write(struct worker *w, struct conn *c, const void *at, size_t len,
                   uint64_t deadline_us);
/* Waits until the operations in flight are over, and closes. */
void conn_close_wait(struct worker *w, struct conn *c);
/* A connected socket, or -errno / -ETIMEDOUT. */
int io_connect(struct worker *w, const struct sockaddr *address, socklen_t len,
               uint64_t deadline_us);
/* POLLIN/POLLOUT on a plain descriptor: the events, -errno or -ETIMEDOUT. */
int io_wait_fd(struct worker *w, int fd, uint32_t events, uint64_t deadline_us);

/* A one-shot poll; done() runs on the worker's own stack. In flight until done was called. */
struct io_poll {
    int fd;
    uint32_t events;
    void (*done)(struct worker *w, struct io_poll *poll, int result);
    bool armed;
    bool keeps;      /* polled again and again until it is closed: epoll keeps the registration */
    bool registered; /* epoll */
    struct wait wait;
};

struct io_engine {
    const char *name;
    int (*init)(struct worker *w, struct failure *why);
    void (*fini)(struct worker *w);
    void (*recv)(struct worker *w, struct conn *c);      /* RECV_ARMED was just set */
    void (*send)(struct worker *w, struct conn *c);      /* SENDING was just set */
    void (*recv_stop)(struct worker *w, struct conn *c); /* on the worker that armed it */
    /* The end of the send in flight is waited for: it must be told soon. NULL: it always is. */
    void (*hurry)(struct worker *w, struct conn *c);
    void (*forget)(struct worker *w, struct conn *c); /* before the descriptor is closed */
    /* See conn_hold(). NULL: nothing lies in the kernel. */
    void (*hold)(struct worker *w, struct conn *const *conns, size_t count, bool sends);
    void (*poll)(struct worker *w, struct io_poll *poll);
    void (*poll_cancel)(struct worker *w, struct io_poll *poll); /* done() follows: -ECANCELED */
    /* epoll: in the owner's hands, act on readiness. */
    void (*ready)(struct worker *w, struct conn *c, uint32_t events);
    /* Submits, dispatches what completed, waits until deadline_us if nothing did. */
    void (*turn)(struct worker *w, uint64_t deadline_us);
    void (*wake)(struct worker *w); /* from any thread */
    bool cancels; /* operations in flight live in the kernel: closing must wait for them */
};
extern struct io_engine io_uring_engine;
extern struct io_engine io_epoll_engine;

/* --- for engines --- */
/* A receive ended: delivers it, here or through the owner's mailbox. */
void conn_received(struct worker *w, struct conn *c, struct rbuf *buf, int32_t result, bool more);
void conn_send_done(struct worker *w, struct conn *c, int32_t result);
/* Readiness (epoll): calls engine->ready in the owner's hands. */
void conn_event(struct worker *w, struct conn *c, uint32_t epoch, uint32_t events);
/* The same for an engine that is in the owner's hands already (struct io_engine, ready). */
void conn_deliver_held(struct worker *w, struct conn *c, struct message *m);
/* The same while the world stands: into the mailbox, or undone for a while. */
void conn_held_recv(struct worker *w, struct conn *c, struct rbuf *buf, int32_t result, bool more);
void conn_held_send(struct worker *w, struct conn *c, int32_t result);
/* Takes `sent` bytes off the front of the output. */
void conn_advance(struct worker *w, struct conn *c, size_t sent);
/* In the hands of that actor, before receive() sees the message. False: nothing for it in there. */
MUST_CHECK bool conn_admit(struct worker *w, struct actor *hands, struct message *m);
/* In the owner's hands, when nothing is in flight any more: closes the descriptor. */
void conn_closed(struct worker *w, struct conn *c);
/* In the owner's hands, in the middle of something: the result of the receive or send in flight
 * follows by mailbox, not yet admitted. */
void conn_defer(struct worker *w, const struct message *m);
void conn_defer_result(struct worker *w, struct conn *c, uint16_t kind, int32_t result);

#endif
