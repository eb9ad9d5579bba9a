/* Clients go to PgDoorman 3.10: a frame each, their socket at its first byte. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_legacy.h"

#include "actors/upgrade_internal.h"
#include "runtime/freeze.h"
#include "runtime/log.h"

#include <errno.h>
#include <openssl/mem.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SENDING_US = 100000, /* of a freeze; all clients stand still meanwhile */
    FINISH_US = 2000000, /* for the rest of a frame that is in the socket in part */
};

enum sent { SENT, SENT_NOT, SENT_LATER, SENT_BROKEN };

struct legacy_round {
    struct upgrade_child *child;
    struct upgrade_load load;
    bool broken;
};

/* --- a frame --- */

static ssize_t send_first(int link, struct bytes frame, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof fd)];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)frame.at, frame.len};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof control.space,
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return sendmsg(link, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What is begun has to be ended: the next frame would be taken for the rest. */
static bool send_rest(int link, struct bytes rest)
{
    uint64_t until_us = clock_us() + FINISH_US;

    while (rest.len > 0 && clock_us() < until_us) {
        ssize_t n = send(link, rest.at, rest.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            handoff_wait(link, POLLOUT, 10);
            continue;
        }
        if (n < 0)
            return false;
        rest = (struct bytes){rest.at + n, rest.len - (size_t)n};
    }
    return rest.len == 0;
}

static enum sent send_frame(int link, struct bytes frame, int fd)
{
    ssize_t n = send_first(link, frame, fd);

    if (n < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN))
        return SENT_BROKEN;
    if (n < 0) /* no room; or too many descriptors are on their way */
        return SENT_LATER;
    if (send_rest(link, (struct bytes){frame.at + n, frame.len - (size_t)n}))
        return SENT;
    /* Nobody can make anything of a part: it ends with the link, and the client stays here. */
    log_error("migration send failed: the new process does not take all of a client");
    return SENT_BROKEN;
}

/* 3.10 cannot take it, at rest or not: it is served here, and not looked at again. */
static enum sent refuse(struct worker *w, struct legacy_round *r, struct session *s)
{
    s->stays = true;
    r->load.left[UPGRADE_LEFT_UNFIT]++;
    actor_tell(w, actor_id_of(&s->actor), MESSAGE(SESSION_LEAVE, .how = LEAVING_BARE));
    return SENT_NOT;
}

static enum sent send_session(struct worker *w, struct legacy_round *r, struct session *s)
{
    struct writer out;
    struct failure why;
    enum sent result = SENT_LATER;

    writer_init(&out);
    writer_u32(&out, 0);
    if (migration_of_session(s, &out, &why) == 0) {
        store_be32(out.at, (uint32_t)(out.len - 4));
        writer_u32(&out, 0); /* no state of TLS */
        if (!out.failed)
            result = send_frame(r->child->migration, (struct bytes){out.at, out.len}, s->conn.fd);
    } else {
        log_warn(SESSION_LOG(s) "prepare_migration failed: %s", SESSION_ID(s), why.text);
        result = refuse(w, r, s);
    }
    OPENSSL_cleanse(out.at, out.len);
    writer_free(&out);
    return result;
}

/* --- the round --- */

/* Those that were sent, first; the others stay. */
static void send_clients(struct worker *w, void *context)
{
    struct legacy_round *r = context;
    struct upgrade_load *load = &r->load;
    uint64_t until_us = clock_us() + SENDING_US;
    size_t sent = 0;

    for (size_t i = 0; i < load->session_count && !r->broken; i++) {
        struct session *s = load->sessions[i];

        if (clock_us() >= until_us)
            break;
        enum sent result = send_session(w, r, s);
        r->broken = result == SENT_BROKEN;
        if (result == SENT_LATER) /* nor would others find room */
            break;
        if (result != SENT)
            continue;
        log_info(SESSION_LOG(s) "client %s migrated to new process", SESSION_ID(s),
                 session_address(s));
        load->sessions[sent++] = s;
    }
    load->sessions_left += (uint32_t)(load->session_count - sent);
    load->session_count = sent;
}

static void leave(struct worker *w, void *context)
{
    struct legacy_round *r = context;

    upgrade_load_leave(w, &r->load);
}

enum round_result upgrade_legacy_round(struct upgrade_child *child, struct failure *why)
{
    struct legacy_round r = {.child = child};

    if (child->migration < 0)
        return ROUND_NOTHING;
    if (upgrade_stop(&r.load, UPGRADE_RESTING, why) != 0)
        return ROUND_FAILED;
    freeze_on(0, send_clients, &r);
    freeze_on(0, leave, &r);
    if (r.load.session_count > 0)
        upgrade_status_change(upgrade_count_moved, &r.load);
    upgrade_status_change(upgrade_count_left, &r.load);
    upgrade_go_on(&r.load);
    size_t moved = r.load.session_count;
    upgrade_load_free(&r.load);
    if (r.broken) {
        close(child->migration);
        child->migration = -1;
        fail(why, "the new process takes no more clients");
        return ROUND_FAILED;
    }
    return moved > 0 ? ROUND_MOVED : ROUND_NOTHING;
}
