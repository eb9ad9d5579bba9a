/* The side that gives away: one thread, from the request to the end of the process. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_course.h"

#include "actors/listener.h"
#include "actors/migration_receive.h"
#include "runtime/log.h"
#include "runtime/notify.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    SETTLE_LOOK_US = 2000,
    BARRIER_MS = 1000, /* for the service manager to read what it was told */
};

static _Atomic bool running;
static pthread_t thread;        /* of the last upgrade, to be joined */
static bool started;            /* there is one; for the first worker only */
static _Atomic bool taken_over; /* by a successor */
static _Atomic int child_pid;   /* that ends with this process; 0: none */
static _Atomic int heir;        /* that has; 0: none */
static void (*returned)(void);
static struct listener *listeners[UPGRADE_LISTENERS];

static void make_plan(struct upgrade_plan *plan)
{
    struct config *config = app_config();
    const struct general_config *g = &config->general;
    uint64_t linger_ms = g->upgrade_linger == SETTING_UNSET ? g->shutdown_timeout
                                                            : g->upgrade_linger;

    *plan = (struct upgrade_plan){
        .drains = strcmp(g->upgrade_mode, "drain") == 0,
        .aborts = strcmp(g->upgrade_incomplete, "abort") == 0,
        .ready_us = g->upgrade_ready_timeout * 1000,
        .settle_us = g->upgrade_settle_timeout * 1000,
        .freeze_us = g->upgrade_freeze_limit * 1000,
        .guard_us = g->upgrade_guard * 1000,
        .linger_us = linger_ms * 1000,
    };
    config_unref(config);
}

void upgrade_listeners(struct listener *tcp, struct listener *local)
{
    listeners[0] = tcp;
    listeners[1] = local;
}

void upgrade_when_back(void (*serves_on)(void))
{
    returned = serves_on;
}

bool upgrade_running(void)
{
    return atomic_load(&running);
}

void upgrade_expect(pid_t child)
{
    atomic_store(&child_pid, child);
}

pid_t upgrade_heir(void)
{
    return atomic_load(&heir);
}

static void hold_listeners(bool hold)
{
    atomic_store(&app.handing_over, hold);
    for (size_t i = 0; i < COUNT_OF(listeners); i++) {
        if (listeners[i] != NULL)
            actor_tell_kind(NULL, actor_id_of(&listeners[i]->actor),
                            hold ? MSG_LISTENER_HOLD : MSG_LISTENER_RESUME);
    }
}

void upgrade_cancel(const struct handoff_packet *packet)
{
    actor_id session = cancel_find((uint32_t)packet->n[0], packet->text);

    if (session != 0)
        actor_tell(NULL, session, MESSAGE(SESSION_CANCEL, .secret = packet->text));
}

/* --- failing --- */

/* Nothing has happened but that time has passed; unless they were lost. */
static void take_back(struct upgrade *u, const char *result, const char *reason)
{
    atomic_store(&child_pid, 0);
    upgrade_kill(&u->child);
    if (u->aside)
        listener_step_back(listeners[1]);
    hold_listeners(false);
    upgrade_load_untold();
    upgrade_failed(result, reason);
    upgrade_reserve();
    if (returned != NULL)
        returned();
    u->lost = strcmp(result, "lost") == 0;
    snprintf(u->reason, sizeof u->reason, "%s", reason);
}

static void say_failed(const struct upgrade *u)
{
    char text[640];
    struct failure unheard;

    snprintf(text, sizeof text, "upgrade failed: %s", u->reason);
    if (notify_serving(text, &unheard) != 0)
        log_warn("sd_notify READY failed: %s", unheard.text);
    log_error("upgrade failed, %s: %s",
              u->lost ? "and the clients that had moved are lost" : "nothing has changed",
              u->reason);
}

/* --- moving --- */

/* Logins that are under way can end; nobody new is let in meanwhile. */
static void settle(uint64_t until_us)
{
    upgrade_phase("settling");
    while (logins_begun() > 0 && clock_us() < until_us && !runtime_stopping())
        handoff_pause(SETTLE_LOOK_US);
}

/* Most of what keeps a client lasts for a moment only: as long as things may settle, another try
 * costs little. */
static enum round_result first_round(struct upgrade *u, struct failure *why)
{
    uint64_t until_us = clock_us() + u->plan.settle_us;

    settle(until_us);
    upgrade_phase("freezing");
    upgrade_test_point("freeze", u->child.pid);
    u->round = 1;
    for (;;) {
        enum round_result result = upgrade_round(&u->child, &u->plan, u->generation, u->round, why);

        if (result != ROUND_INCOMPLETE || clock_us() >= until_us || runtime_stopping())
            return result;
        handoff_pause(SETTLE_LOOK_US);
    }
}

/* With it everything stands or falls. */
static int commit(struct upgrade *u, struct failure *why)
{
    hold_listeners(true);
    if (u->legacy) /* it serves by now */
        return 0;
    enum round_result result = first_round(u, why);
    if (result == ROUND_MOVED)
        return 0;
    take_back(u,
              result == ROUND_RECLAIMED ? "reclaimed"
              : result == ROUND_LOST    ? "lost"
                                        : "aborted",
              why->text);
    return -1;
}

static void say_moved(const struct upgrade_status *s)
{
    log_info("upgrade: moved %" PRIu64 " clients (%" PRIu64 " in transactions, %" PRIu64
             " waiting), %" PRIu64 " server connections (frozen %" PRIu64 " ms); %" PRIu64
             " clients stay for now%s%s",
             s->sessions, s->in_transaction, s->waiters, s->backends, s->longest_freeze_us / 1000,
             s->sessions_left, s->left_reasons[0] == '\0' ? "" : ": ", s->left_reasons);
}

/* The sessions are the successor's. What clients arrive on is, too, but is kept for a while. */
static void hand_over_sessions(struct upgrade *u)
{
    struct upgrade_status status;

    atomic_store(&child_pid, 0);
    atomic_store(&taken_over, true);
    /* 3.10 knows nothing of connections that are still here. */
    atomic_store(&app.handed_over, !u->legacy);
    atomic_store(&heir, u->child.pid);
    u->deadline_us = clock_us() + u->plan.linger_us;
    u->guard_until_us = clock_us() + u->plan.guard_us + 1;
    upgrade_phase("draining");
    upgrade_status_get(&status);
    if (u->legacy)
        log_info(u->child.migration >= 0 ? "Client migration enabled"
                                         : "Clients cannot be migrated to the new process");
    else
        say_moved(&status);
    upgrade_drain(u);
}

/* The successor has gone. Had it just begun, and did not mean to end, this process serves again. */
static bool serve_again(struct upgrade *u)
{
    if (u->guard_until_us == 0 || runtime_stopping() || !upgrade_child_crashed(&u->child))
        return false;
    atomic_store(&taken_over, false);
    atomic_store(&app.handed_over, false);
    coordinators_tick(NULL); /* for those who wait for a permit */
    atomic_store(&heir, 0);
    upgrade_drain_no_more();
    take_back(u, "lost", "the new process has died when it had just taken over");
    return true;
}

static void end(struct upgrade *u)
{
    struct upgrade_status s;
    struct failure why;

    /* With the sender gone, its word of the new main process might not count; and the successor,
     * which says next that all is done, is listened to only as that. */
    if (notify_barrier(BARRIER_MS, &why) != 0)
        log_warn("sd_notify BARRIER failed: %s", why.text);
    upgrade_status_get(&s);
    uint64_t bye[] = {
        s.sessions,          s.waiters, s.in_transaction,           s.backends,
        s.longest_freeze_us, s.rounds,  clock_us() - u->started_us, atomic_load(&app.clients)};
    if (u->aside && u->guard_until_us != 0) /* end_guard() has not come to it */
        listener_stay_aside(listeners[1]);
    if (u->legacy) {
        log_info("migration sender: closing socket");
        upgrade_child_close(&u->child);
        log_info("Migration sender finished");
    } else if (handoff_send(u->child.link, HANDOFF_BYE, bye, COUNT_OF(bye),
                            bytes_of(s.left_reasons), NULL, 0, &why) != 0)
        log_debug("upgrade: %s", why.text);
    log_info("upgrade: done in %" PRIu64 " ms: %" PRIu64 " clients and %" PRIu64
             " server connections moved in %" PRIu64 " rounds, longest freeze %" PRIu64
             " ms, %u clients left behind",
             (clock_us() - u->started_us) / 1000, s.sessions, s.backends, s.rounds,
             s.longest_freeze_us / 1000, atomic_load(&app.clients));
    runtime_stop();
}

static void *run(void *argument)
{
    struct upgrade u = {
        .listeners = listeners, .started_us = clock_us(), .child = UPGRADE_NO_CHILD};
    struct upgrade_status status;
    struct failure why = {0};

    (void)argument;
    upgrade_reserve_use();
    make_plan(&u.plan);
    upgrade_status_get(&status);
    u.generation = status.generation + 1;
    if (notify_reloading("an upgrade is under way", &why) != 0)
        log_warn("sd_notify RELOADING failed: %s", why.text);
    if (upgrade_prepare(&u, &why) != 0)
        take_back(&u, "aborted", why.text);
    else if (commit(&u, &why) == 0) {
        hand_over_sessions(&u);
        upgrade_test_point("moved", u.child.pid);
        bool moved = upgrade_move_the_rest(&u);
        if (moved || !serve_again(&u)) {
            if (!moved)
                upgrade_cut_off();
            upgrade_test_point("bye", u.child.pid);
            end(&u);
            return NULL;
        }
    }
    /* In this order: who hears of it may ask again at once. */
    atomic_store(&running, false);
    say_failed(&u);
    upgrade_reload_now();
    return NULL;
}

void upgrade_start(struct worker *w, const char *why)
{
    (void)w;
    if (listeners[0] == NULL || atomic_load(&app.draining)) {
        log_warn("%s: no upgrade while the process ends", why);
        return;
    }
    if (successor_busy() || migration_receive_busy() || atomic_exchange(&running, true)) {
        log_warn("%s: upgrade already in progress", why);
        return;
    }
    if (started) /* it has ended, as `running` says */
        handoff_thread_join(thread);
    int error = handoff_thread_begin(&thread, "upgrade-pg-door", run);
    started = error == 0;
    if (started)
        return;
    log_error("%s: the upgrade cannot be started: %s", why, strerror(error));
    atomic_store(&running, false);
}

bool upgrade_spare_child(void)
{
    return atomic_load(&taken_over) || atomic_exchange(&child_pid, 0) > 0;
}

bool upgrade_finish(void)
{
    int pid = atomic_exchange(&child_pid, 0);

    if (pid > 0)
        process_kill(pid);
    if (started)
        handoff_thread_join(thread);
    return atomic_load(&taken_over);
}
