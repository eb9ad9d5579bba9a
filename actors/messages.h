/* messages.h: everything that actors say to each other, in one table.
 *
 * A row is a kind and its fields: U an unsigned number, B a run of bytes. From it follow the
 * struct, the encoder, the decoder (msgpack, a flat sequence in this order) and the printer.
 * Numbers that name actors are actor_ids. A decoder ignores values behind those that it knows, so
 * that fields may be appended.
 */
#ifndef ACTORS_MESSAGES_H
#define ACTORS_MESSAGES_H

#include "runtime/message.h"
#include "runtime/pack.h"

/* clang-format off */
#define MESSAGE_KINDS(X)                                                                           \
    /* session -> pool: a backend, or a place in the queue; answered by LEASE or REFUSED */        \
    X(POOL_CHECKOUT,  F_U(deadline_us) F_U(ticket))                                                \
    /* session -> pool: what a login needs to know of the server; answered by POOL_PARAMETERS */   \
    X(POOL_LOGIN,     F_U(deadline_us) F_U(ticket))                                                \
    /* session -> pool: its request is off; answered by WITHDRAWN unless answered before */        \
    X(POOL_WITHDRAW,  F_U(ticket) F_U(since_us))                                                   \
    /* session -> pool: the lease is over; how: enum lease_end; us: how long it was held */        \
    X(POOL_RETURN,    F_U(backend) F_U(how) F_U(held_us))                                          \
    /* backend -> pool: logged in, cleaned or checked, and idle */                                 \
    X(POOL_READY,     F_U(backend))                                                                \
    /* backend -> pool: could not be opened */                                                     \
    X(POOL_FAILED,    F_U(backend) F_B(sqlstate) F_B(text) F_U(kind))                              \
    /* backend -> pool: closed */                                                                  \
    X(POOL_GONE,      F_U(backend))                                                                \
    /* watcher -> backend, backend -> pool: the server hung up */                                  \
    X(BACKEND_HANGUP, F_U(backend))                                                                \
    X(POOL_PARAMETERS, F_U(ticket) F_B(pairs))                                                     \
    X(POOL_LEASE,     F_U(ticket) F_U(backend) F_U(waited_us))                                     \
    X(POOL_REFUSED,   F_U(ticket) F_B(sqlstate) F_B(text))                                         \
    X(POOL_WITHDRAWN, F_U(ticket))                                                                 \
    /* daemon, admin -> pool */                                                                    \
    X(POOL_CONFIGURE, F_U(unused))                                                                 \
    X(POOL_TICK,      F_U(unused))                                                                 \
    X(POOL_REPORT,    F_U(unused))                                                                 \
    X(POOL_PAUSE,     F_U(unused))                                                                 \
    X(POOL_RESUME,    F_U(unused))                                                                 \
    X(POOL_RECONNECT, F_U(unused))                                                                 \
    X(POOL_DRAIN,     F_U(unused))                                                                 \
    /* upgrade -> pool: the process is not drained after all */                                    \
    X(POOL_SERVE,     F_U(unused))                                                                 \
    /* upgrade -> pool: the predecessor has no connections any more */                             \
    X(POOL_ALONE,     F_U(unused))                                                                 \
    /* pool -> backend */                                                                          \
    X(BACKEND_CLEAN,  F_U(unused))                                                                 \
    X(BACKEND_CHECK,  F_U(unused))                                                                 \
    /* await: the server's end of the connection, too, before POOL_GONE */                         \
    X(BACKEND_CLOSE,  F_B(reason) F_U(await))                                                      \
    X(BACKEND_RELEASED, F_U(unused))                                                               \
    /* coroutine -> backend: a cancel request is done with; outcome: enum cancel_outcome */        \
    X(BACKEND_CANCELLED, F_U(outcome))                                                             \
    /* pool -> coordinator: here with so many backends, or with another minimum; gone */           \
    X(COORDINATOR_JOIN, F_U(term) F_U(held) F_U(minimum) F_B(user))                                \
    X(COORDINATOR_LEAVE, F_U(term))                                                                \
    /* pool -> coordinator: so many more have come from another process */                         \
    X(COORDINATOR_INHERIT, F_U(term) F_U(count))                                                   \
    /* pool -> coordinator: so many permits are wanted, in place of what was wanted before; or one \
     * at once, if `spare` are free, and else none. Answered by POOL_PERMIT, also later */         \
    X(COORDINATOR_WANT, F_U(term) F_U(number) F_U(count) F_U(spare) F_U(background))               \
    /* pool -> coordinator: a permit is back; evicted: enum eviction */                            \
    X(COORDINATOR_RELEASE, F_U(term) F_U(evicted))                                                 \
    /* pool -> coordinator: a backend that others may have is idle */                              \
    X(COORDINATOR_IDLE, F_U(term))                                                                 \
    X(COORDINATOR_EXHAUSTED, F_U(term))                                                            \
    /* coordinator -> pool, and the answers. how: enum eviction; next_us: when to ask again */     \
    X(POOL_PERMIT,    F_U(term) F_U(number) F_U(count) F_U(background))                            \
    X(POOL_EVICT,     F_U(term) F_U(stale) F_U(yield) F_U(rest_us))                                \
    X(POOL_KEEP,      F_U(term))                                                                   \
    X(COORDINATOR_EVICTING, F_U(term) F_U(how) F_U(next_us))                                       \
    X(COORDINATOR_KEPT, F_U(term) F_U(done))                                                       \
    /* daemon -> coordinator */                                                                    \
    X(COORDINATOR_CONFIGURE, F_U(unused))                                                          \
    X(COORDINATOR_TICK, F_U(unused))                                                               \
    /* cancelling session -> session, and its answer */                                            \
    X(SESSION_CANCEL, F_B(secret))                                                                 \
    X(CANCEL_DONE,    F_U(sent))                                                                   \
    /* daemon -> session */                                                                        \
    X(SESSION_DRAIN,  F_U(unused))                                                                 \
    /* daemon -> session, once: it has taken too long to log in */                                 \
    X(SESSION_LOGIN_TIMEOUT, F_U(unused))                                                          \
    /* session -> admin, and its answer */                                                         \
    X(ADMIN_QUERY,    F_B(text) F_B(who))                                                          \
    X(ADMIN_RESULT,   F_B(bytes))                                                                  \
    /* admin, signal -> daemon; answered by RELOADED when there is a sender. error: empty = ok */  \
    X(DAEMON_RELOAD,  F_U(unused))                                                                 \
    X(DAEMON_RELOADED, F_B(error) F_U(changed))                                                    \
    X(DAEMON_SIGNAL,  F_U(number))                                                                 \
    /* the descriptor -> listener */                                                               \
    X(LISTENER_READY, F_U(unused))                                                                 \
    /* upgrade -> listener: nobody is accepted for now; and again */                               \
    X(LISTENER_HOLD,  F_U(unused))                                                                 \
    X(LISTENER_RESUME, F_U(unused))                                                                \
    X(DAEMON_SHUTDOWN, F_U(unused))                                                                \
    /* upgrade -> session: it is to leave; how: enum session_leaving */                            \
    X(SESSION_LEAVE,  F_U(how))                                                                    \
    /* upgrade -> session: it is another process's now */                                          \
    X(SESSION_MOVED,  F_U(unused))                                                                 \
    /* helper -> session; right: the password was (when it was to be compared) */                  \
    X(DERIVED_KEYS,   F_U(right))                                                                  \
    /* session -> auth_query: who is that? again: what is remembered did not serve. Answered by    \
     * AUTH_ANSWER; outcome: enum lookup_outcome */                                                \
    X(AUTH_LOOKUP,    F_U(ticket) F_U(again) F_B(user))                                            \
    X(AUTH_ANSWER,    F_U(ticket) F_U(outcome))                                                    \
    /* session -> auth_query: what is remembered of this user led nowhere */                       \
    X(AUTH_DISTRUST,  F_B(user))                                                                   \
    /* admin -> auth_query: what is remembered of this user, or of all (empty), is forgotten */    \
    X(AUTH_FLUSH,     F_B(user))                                                                   \
    /* daemon -> auth_query */                                                                     \
    X(AUTH_CONFIGURE, F_U(unused))                                                                 \
    /* auth_query -> backend of its own, and its answer; outcome: enum lookup_outcome, lost: the   \
     * connection is no good any more, type: of the parameters */                                  \
    X(BACKEND_LOOKUP, F_B(query) F_B(user))                                                        \
    X(LOOKUP_DONE,    F_U(backend) F_U(outcome) F_U(lost) F_U(type) F_B(secret) F_B(parameters)    \
                      F_B(problem))                                                                \
    /* pool -> itself, session -> pool: does anybody still need it? */                             \
    X(POOL_COLLECT,   F_U(unused))
/* clang-format on */

enum message_kind {
    MESSAGE_KIND_BEFORE = MESSAGE_KIND_FIRST - 1,
#define F_U(n)
#define F_B(n)
#define X(kind, fields) MSG_##kind,
    MESSAGE_KINDS(X)
#undef X
#undef F_U
#undef F_B
        MESSAGE_KIND_END
};

#define F_U(n) uint64_t n;
#define F_B(n) struct bytes n;
#define X(kind, fields) \
    struct msg_##kind { \
        fields          \
    };
MESSAGE_KINDS(X)
#undef X
#undef F_U
#undef F_B

#define F_U(n) pack_uint(&p_, in_->n);
#define F_B(n) pack_bin(&p_, in_->n.at, in_->n.len);
#define X(k, fields)                                                                  \
    static inline void message_put_##k(struct message *m_, const struct msg_##k *in_) \
    {                                                                                 \
        struct packer p_;                                                             \
                                                                                      \
        packer_init_fixed(&p_, m_->body, MESSAGE_INLINE);                             \
        m_->kind = MSG_##k;                                                           \
        fields m_->len = (uint32_t)p_.len;                                            \
        if (__builtin_expect(p_.failed, 0)) {                                         \
            packer_init(&p_);                                                         \
            fields INVARIANT(!p_.failed);                                             \
            message_set_body(m_, p_.start, p_.len);                                   \
            packer_free(&p_);                                                         \
        }                                                                             \
    }
MESSAGE_KINDS(X)
#undef X
#undef F_U
#undef F_B

/* Decoders: bytes are borrowed from the message. A body that does not parse is a broken invariant:
 * it was written by message_put_*. */
#define F_U(n) out_.n = unpack_uint(&u_);
#define F_B(n) out_.n = unpack_bytes(&u_);
#define X(k, fields)                                                       \
    static inline struct msg_##k message_get_##k(const struct message *m_) \
    {                                                                      \
        struct unpacker u_ = unpacker_of(message_body(m_), m_->len);       \
        struct msg_##k out_;                                               \
                                                                           \
        fields INVARIANT(!u_.bad && m_->kind == MSG_##k);                  \
        return out_;                                                       \
    }
MESSAGE_KINDS(X)
#undef X
#undef F_U
#undef F_B

/* Builds a message of that kind: MESSAGE(POOL_READY, .backend = id). */
#define MESSAGE(k, ...)                               \
    ({                                                \
        struct message *made_ = message_new(MSG_##k); \
        struct msg_##k fields_ = {__VA_ARGS__};       \
        message_put_##k(made_, &fields_);             \
        made_;                                        \
    })

const char *message_kind_name(uint16_t kind);
/* "POOL_LEASE ticket=7 backend=12 ..." into out. */
void message_print(const struct message *m, char *out, size_t size);

/* Whether, and how, a backend was given up for another pool's sake. */
enum eviction {
    EVICTED_NOT,
    EVICTED_NOW,   /* it was idle */
    EVICTED_LATER, /* it was in use, and promised */
    EVICTED_STALE, /* it had rested while the reserve was in use */
    EVICTED_LOST,  /* it was promised, or another in its place, and ended for a reason of its own */
};

/* How a lease ends. */
enum lease_end {
    LEASE_CLEAN,  /* synced, idle, nothing left behind */
    LEASE_DIRTY,  /* synced, but to be rolled back or reset first */
    LEASE_BROKEN, /* to be closed */
};

#endif
