/* The beginning of an upgrade: the configuration is checked, the successor started and greeted,
 * until it is ready or the attempt has failed. Nothing has moved yet. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_course.h"

#include "actors/listener.h"
#include "runtime/log.h"
#include "runtime/notify.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    EARLY_LOOK_MS = 20, /* for a word or an end of the new process */
    REFUSED_LOCAL = 71, /* with this PgDoorman 3.10 ends when its Unix socket is in use */
};

static int not_ready(const struct upgrade *u, struct failure *why)
{
    uint64_t limit_ms = u->plan.ready_us / 1000;
    bool seconds = limit_ms % 1000 == 0;

    return fail(why,
                "New process did not signal readiness within %" PRIu64 "%s (timeout or early exit)",
                seconds ? limit_ms / 1000 : limit_ms, seconds ? "s" : "ms");
}

/* What it says next; the time until it has to be ready is one for all. */
static int receive_early(struct upgrade *u, struct handoff_packet *packet, struct failure *why)
{
    switch (handoff_receive(u->child.link, packet, left_ms(u->ready_until_us), why)) {
    case HANDOFF_TIMEOUT: return not_ready(u, why);
    case HANDOFF_GONE: return upgrade_child_said_nothing(&u->child, why);
    case HANDOFF_BAD: return -1;
    case HANDOFF_GOT: break;
    }
    return 0;
}

/* PgDoorman 3.10 closes the link, of which it knows nothing, and says in its own way that it is
 * ready. 0: there is a packet, or u->legacy. */
static int await_word(struct upgrade *u, struct handoff_packet *packet, struct failure *why)
{
    bool linked = true;

    for (;;) {
        bool ended = process_ended(u->child.watch, linked ? 0 : (int)EARLY_LOOK_MS);
        bool ready = upgrade_child_ready(&u->child);
        enum handoff_got got = !linked
                                   ? HANDOFF_GONE
                                   : handoff_receive(u->child.link, packet,
                                                     ended || ready ? 0 : (int)EARLY_LOOK_MS, why);

        if (got == HANDOFF_GOT)
            return 0;
        if (got == HANDOFF_BAD)
            return -1;
        linked = got != HANDOFF_GONE;
        if (ready) {
            u->legacy = true;
            return 0;
        }
        if (ended)
            return upgrade_child_said_nothing(&u->child, why);
        if (clock_us() >= u->ready_until_us || runtime_stopping())
            return not_ready(u, why);
    }
}

static int await_hello(struct upgrade *u, struct failure *why)
{
    struct handoff_packet packet;

    if (await_word(u, &packet, why) != 0)
        return -1;
    if (u->legacy)
        return 0;
    handoff_close_fds(&packet);
    if (packet.kind != HANDOFF_HELLO || packet.n[0] != HANDOFF_PROTOCOL)
        return fail(why, "the new process speaks another version of the handoff");
    /* It reads its own version of the schema and those before it. */
    if (packet.n[1] < STATE_MAJOR)
        return fail(why,
                    "the new process reads version %" PRIu64 " of the state, this one writes %d",
                    packet.n[1], STATE_MAJOR);
    if (packet.n[2] != (uint64_t)u->child.pid)
        return fail(why, "somebody else answers for the new process");
    return 0;
}

static int greet(struct upgrade *u, struct failure *why)
{
    uint64_t ack[] = {HANDOFF_PROTOCOL, STATE_MAJOR, u->generation, (uint64_t)process_self()};
    uint64_t kinds[HANDOFF_NUMBERS] = {0};
    int fds[UPGRADE_LISTENERS];
    unsigned count = 0;

    for (size_t i = 0; i < UPGRADE_LISTENERS; i++) {
        if (u->listeners[i] == NULL)
            continue;
        kinds[1 + count] = i;
        fds[count++] = u->listeners[i]->fd;
    }
    kinds[0] = count;
    uint8_t key[STATEMENT_KEY_BYTES];
    statement_hash_key_get(key);
    if (handoff_send(u->child.link, HANDOFF_HELLO_ACK, ack, COUNT_OF(ack),
                     (struct bytes){key, sizeof key}, NULL, 0, why) != 0)
        return -1;
    return handoff_send(u->child.link, HANDOFF_LISTENERS, kinds, 1 + count, (struct bytes){0}, fds,
                        count, why);
}

static int await_ready(struct upgrade *u, struct failure *why)
{
    struct handoff_packet packet;

    for (;;) {
        if (receive_early(u, &packet, why) != 0)
            return -1;
        handoff_close_fds(&packet);
        if (packet.kind == HANDOFF_READY)
            return 0;
        if (packet.kind == HANDOFF_ERROR)
            return fail(why, "the new process: %.*s", (int)packet.text.len,
                        (const char *)packet.text.at);
    }
}

/* What is told of the last one makes room for this one. */
static void note_request(struct upgrade_status *status, void *context)
{
    (void)context;
    *status = (struct upgrade_status){.generation = status->generation,
                                      .predecessor = status->predecessor};
    snprintf(status->phase, sizeof status->phase, "validating");
    snprintf(status->result, sizeof status->result, "running");
}

static void note_child(struct upgrade_status *status, void *context)
{
    const struct upgrade *u = context;

    status->successor = u->child.pid;
}

static int start(struct upgrade *u, struct failure *why)
{
    u->ready_until_us = clock_us() + u->plan.ready_us;
    if (upgrade_spawn(&u->child, u->listeners[0]->fd, why) != 0)
        return -1;
    upgrade_expect(u->child.pid);
    upgrade_status_change(note_child, u);
    upgrade_test_point("spawned", u->child.pid);
    return await_hello(u, why);
}

/* PgDoorman 3.10 cannot be given a Unix socket, and ends if there is one already. Then ours makes
 * way, and it is tried once more. */
static int start_beside(struct upgrade *u, struct failure *why)
{
    if (start(u, why) == 0)
        return 0;
    if (u->listeners[1] == NULL || u->child.pid <= 0 || !process_ended(u->child.watch, 0))
        return -1;
    int status = upgrade_child_status(&u->child);
    bool unknown = status < 0 && notify_wanted(); /* it was nobody's child */
    if ((status != REFUSED_LOCAL && !unknown) || !listener_step_aside(u->listeners[1]))
        return -1;
    log_info("upgrade: once more, with the Unix socket out of the way");
    u->aside = true;
    upgrade_expect(0);
    upgrade_child_close(&u->child);
    if (start(u, why) != 0)
        return -1;
    if (u->legacy)
        return 0;
    u->aside = false;
    listener_step_back(u->listeners[1]);
    return 0;
}

static void say_refused(const char *reason)
{
    log_error("!!! CONFIGURATION VALIDATION FAILED !!!");
    log_error("%s", reason);
    log_error("BINARY UPGRADE ABORTED - SHUTDOWN CANCELLED");
    log_error("FIX THE CONFIGURATION BEFORE ATTEMPTING BINARY UPGRADE AGAIN");
    log_error("THE SERVER WILL CONTINUE RUNNING WITH THE CURRENT BINARY");
}

int upgrade_prepare(struct upgrade *u, struct failure *why)
{
    upgrade_status_change(note_request, NULL);
    if (upgrade_validate(why) != 0) {
        say_refused(why->text);
        return -1;
    }
    upgrade_phase("starting");
    if (start_beside(u, why) != 0)
        return -1;
    if (!u->legacy) {
        if (greet(u, why) != 0)
            return -1;
        upgrade_test_point("greeted", u->child.pid);
        if (await_ready(u, why) != 0)
            return -1;
    }
    upgrade_test_point("ready", u->child.pid);
    log_info("New process signaled readiness");
    return 0;
}
