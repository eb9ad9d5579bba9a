/* message.h: what actors say to each other.
 *
 * A kind, the sender, and a msgpack body (runtime/pack.h), inline when small. The runtime's own
 * kinds (I/O results, alarms, visits) stay within the process and carry pointers; all others are
 * bytes and nothing else, so they can be logged, recorded, replayed or sent to another process.
 * A message has one owner: the sender until it is told, then the mailbox, then the receiver, which
 * frees it after receive() (the runtime does that).
 */
#ifndef RUNTIME_MESSAGE_H
#define RUNTIME_MESSAGE_H

#include "runtime/base.h"

struct conn;
struct rbuf;
struct worker;
struct actor;

/* Which actor: index and generation, so that a late message to a dead one is dropped, never
 * misdelivered. 0 is nobody. */
typedef uint64_t actor_id;

enum { MESSAGE_INLINE = 64 };

/* Kinds below FIRST are the runtime's. */
enum runtime_kind {
    MESSAGE_NONE,
    MESSAGE_START,  /* the first message of every actor */
    MESSAGE_RECV,   /* io: bytes (buf, result > 0), end (0) or -errno */
    MESSAGE_SENT,   /* io: the output queue is empty (0), or -errno */
    MESSAGE_CLOSED, /* io: the connection's descriptor is closed and nothing is in flight */
    MESSAGE_READY,  /* io: readiness seen by a worker that could not run the owner */
    MESSAGE_ALARM,  /* alarm */
    MESSAGE_VISIT,  /* visit */
    MESSAGE_KIND_FIRST
};

/* flags */
enum {
    MESSAGE_MORE = 1,     /* RECV: the socket is known to hold more */
    MESSAGE_ADMITTED = 2, /* io: the connection has taken note of it already */
};

struct visit;

struct message {
    struct message *next;
    actor_id sender;
    actor_id target;
    struct message *reply; /* inline ask: where the answer goes; else NULL */
    uint16_t kind;
    uint16_t flags;
    uint32_t len;
    union {
        uint8_t body[MESSAGE_INLINE];
        uint8_t *external; /* len > MESSAGE_INLINE: malloc'ed, the message's own */
        struct {
            struct conn *conn;
            struct rbuf *buf; /* the receiver's from now on */
            uint32_t conn_epoch;
            int32_t result;
        } io;
        struct {
            uint64_t token;
        } alarm;
        struct visit *visit;
    };
};

/* From the calling thread's cache; never NULL (running out of memory ends the process). */
struct message *message_new(uint16_t kind);
void message_free(struct message *m);
/* Frees the body of a message that is not from message_new(), after its use. */
void message_drop_body(struct message *m);
/* Fills the body with a copy. */
void message_set_body(struct message *m, const void *body, size_t len);
static inline const uint8_t *message_body(const struct message *m)
{
    return m->len <= MESSAGE_INLINE ? m->body : m->external;
}

#endif
