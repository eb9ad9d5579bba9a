/* The rest of an upgrade: most have moved, the others follow round after round as they can, and
 * whoever cannot is served here to the end of the time for that. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_course.h"
#include "actors/upgrade_legacy.h"

#include "actors/listener.h"
#include "runtime/log.h"
#include "runtime/notify.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    ROUND_PAUSE_MS = 10,      /* what could not move is looked at again */
    ROUND_PAUSE_MAX_MS = 250, /* that much later each time, up to this */
    REST_LOOK_MS = 10,        /* whoever leaves as soon as it rests waits no longer */
    LAST_WORD_US = 1000000,   /* for clients to hear why they end */
    LAST_WORD_LOOK_US = 2000,
    BACKENDS_WAIT_US =
        500000, /* for server connections between two states, when all clients went */
};

static uint32_t remaining(void)
{
    return atomic_load(&app.clients);
}

/* --- in a drain: what stays comes to its end here --- */

static void tell_sessions(enum session_leaving how)
{
    size_t count = 0;
    actor_id *sessions = actor_list(&session_type, &count);

    for (size_t i = 0; i < count; i++)
        actor_tell(NULL, sessions[i], MESSAGE(SESSION_LEAVE, .how = how));
    free(sessions);
}

static void tell_pool_to_drain(void *context, struct pool_shared *shared)
{
    bool drain = *(const bool *)context;

    actor_tell_kind(NULL, atomic_load(&shared->pool), drain ? MSG_POOL_DRAIN : MSG_POOL_SERVE);
}

void upgrade_drain(const struct upgrade *u)
{
    bool on = u->plan.drains || u->legacy;

    if (!on)
        return;
    directory_each(tell_pool_to_drain, &on);
    if (!u->legacy || u->child.migration >= 0)
        tell_sessions(u->legacy ? LEAVING_BARE : LEAVING);
}

void upgrade_drain_no_more(void)
{
    bool on = false;

    tell_sessions(LEAVING_NOT);
    directory_each(tell_pool_to_drain, &on);
}

void upgrade_cut_off(void)
{
    uint64_t until_us = clock_us() + LAST_WORD_US;

    tell_sessions(LEAVING_ENDS);
    while (remaining() > 0 && clock_us() < until_us && !runtime_stopping())
        handoff_pause(LAST_WORD_LOOK_US);
}

/* --- meanwhile --- */

static void close_listeners(struct upgrade *u)
{
    for (size_t i = 0; i < UPGRADE_LISTENERS; i++) {
        if (u->listeners[i] == NULL)
            continue;
        listener_abandon(u->listeners[i]);
    }
}

/* Who is no longer the main process cannot become it again: the manager would not listen. */
static void end_guard(struct upgrade *u)
{
    struct failure why;

    if (notify_main_pid(u->child.pid, &why) != 0)
        log_warn("sd_notify MAINPID failed: %s", why.text);
    upgrade_reload_now();
    u->guard_until_us = 0;
    close_listeners(u);
    if (u->aside)
        listener_stay_aside(u->listeners[1]);
    log_info("Foreground binary upgrade complete, listener released");
}

/* Is PgDoorman 3.10, which says nothing, still there? Without it, who is here is served to the end.
 */
static bool watch_a_while(struct upgrade *u, int timeout_ms)
{
    if (u->alone) {
        handoff_pause((unsigned)timeout_ms * 1000);
        return true;
    }
    if (!process_ended(u->child.watch, timeout_ms))
        return true;
    log_error("upgrade: the new process has gone");
    u->alone = true;
    return u->guard_until_us == 0;
}

/* What comes from the successor meanwhile. False: it has gone. */
static bool listen_a_while(struct upgrade *u, int timeout_ms)
{
    struct handoff_packet packet;
    struct failure why;

    switch (handoff_receive(u->child.link, &packet, timeout_ms, &why)) {
    case HANDOFF_GOT:
        handoff_close_fds(&packet);
        if (packet.kind == HANDOFF_CANCEL)
            upgrade_cancel(&packet);
        return true;
    case HANDOFF_TIMEOUT: return true;
    case HANDOFF_GONE:
    case HANDOFF_BAD: break;
    }
    log_error("upgrade: the new process has gone: %s", why.text);
    return false;
}

/* Nobody is left, or the time is over. */
static bool rest_is_over(const struct upgrade *u, uint64_t *emptied_us)
{
    struct upgrade_status status;
    uint64_t now_us = clock_us();

    upgrade_status_get(&status);
    if (remaining() == 0 && *emptied_us == 0)
        *emptied_us = now_us;
    if (runtime_stopping())
        return true;
    if (u->guard_until_us != 0)
        return false;
    if (remaining() == 0 && (status.backends_left == 0 || now_us > *emptied_us + BACKENDS_WAIT_US))
        return true;
    if (now_us < u->deadline_us)
        return false;
    log_error(
        "Graceful shutdown timed out. %u %s remain (%u in transactions), closing forcibly%s%s",
        remaining(), CLIENTS(remaining()), app_leases(), status.left_reasons[0] == '\0' ? "" : ": ",
        status.left_reasons);
    upgrade_cut_off();
    return true;
}

/* Till then, or sooner if somebody who is to leave has come to rest. False: the successor has gone.
 */
static bool await_round(struct upgrade *u, uint64_t until_us)
{
    while (!runtime_stopping()) {
        int wait_ms = left_ms(until_us);

        if (u->guard_until_us != 0)
            wait_ms = MIN(wait_ms, left_ms(u->guard_until_us));
        if (u->plan.drains || u->legacy)
            wait_ms = MIN(wait_ms, (int)REST_LOOK_MS);
        if (!(u->legacy ? watch_a_while(u, wait_ms) : listen_a_while(u, wait_ms)))
            return false;
        if (u->guard_until_us != 0 && clock_us() >= u->guard_until_us)
            end_guard(u);
        if (clock_us() >= until_us || atomic_exchange(&app.resting, false))
            break;
    }
    return true;
}

/* The console is the successor's by now, which so can tell of those who stay here. */
static void tell_left(struct upgrade *u)
{
    struct upgrade_status s;
    struct failure why;

    if (u->legacy)
        return;
    upgrade_status_get(&s);
    uint64_t left[] = {s.sessions_left, s.backends_left};
    if (s.sessions_left == u->told.sessions_left && s.backends_left == u->told.backends_left &&
        strcmp(s.left_reasons, u->told.left_reasons) == 0)
        return;
    u->told = s;
    if (handoff_send(u->child.link, HANDOFF_LEFT, left, COUNT_OF(left), bytes_of(s.left_reasons),
                     NULL, 0, &why) != 0)
        log_debug("upgrade: %s", why.text);
}

static enum round_result another_round(struct upgrade *u, struct failure *why)
{
    u->round++;
    if (!u->legacy)
        return upgrade_round(&u->child, &u->plan, u->generation, u->round, why);
    bool could = u->child.migration >= 0;
    enum round_result result = upgrade_legacy_round(&u->child, why);
    if (could && u->child.migration < 0)
        tell_sessions(LEAVING_NOT); /* they have nowhere to go, and are served here to the end */
    return result;
}

bool upgrade_move_the_rest(struct upgrade *u)
{
    uint64_t emptied_us = 0;
    unsigned pause_ms = ROUND_PAUSE_MS;
    struct failure why;

    while (!rest_is_over(u, &emptied_us)) {
        tell_left(u);
        if (!await_round(u, clock_us() + pause_ms * 1000ull))
            return false;
        enum round_result result = another_round(u, &why);
        if (result == ROUND_FAILED)
            log_warn("upgrade: round %" PRIu64 " failed, another follows: %s", u->round, why.text);
        if (result == ROUND_LOST || result == ROUND_RECLAIMED)
            return false;
        pause_ms = result == ROUND_MOVED ? ROUND_PAUSE_MS
                                         : MIN(pause_ms * 2, (unsigned)ROUND_PAUSE_MAX_MS);
    }
    return true;
}
