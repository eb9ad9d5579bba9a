/* The side that gives away: one thread, from the request to the end of the process. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_internal.h"
#include "actors/upgrade_legacy.h"

#include "actors/listener.h"
#include "actors/migration_receive.h"
#include "runtime/log.h"
#include "runtime/notify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SETTLE_LOOK_US = 2000,
    EARLY_LOOK_MS = 20,       /* for a word or an end of the new process */
    REFUSED_LOCAL = 71,       /* with this PgDoorman 3.10 ends when its Unix socket is in use */
    ROUND_PAUSE_MS = 10,      /* what could not move is looked at again */
    ROUND_PAUSE_MAX_MS = 250, /* that much later each time, up to this */
    REST_LOOK_MS = 10,        /* whoever leaves as soon as it rests waits no longer */
    LAST_WORD_US = 1000000,   /* for clients to hear why they end */
    BARRIER_MS = 1000,        /* for the service manager to read what it was told */
    BACKENDS_WAIT_US =
        500000, /* for server connections between two states, when all clients went */
};

static _Atomic bool running;
static pthread_t thread;        /* of the last upgrade, to be joined */
static bool started;            /* there is one; for the first worker only */
static _Atomic bool taken_over; /* by a successor */
static _Atomic int child_pid;   /* that ends with this process; 0: none */
static _Atomic int heir;        /* that has; 0: none */
static void (*returned)(void);
static struct listener *listeners[2];

struct upgrade {
    struct upgrade_child child;
    uint64_t generation; /* the successor's */
    uint64_t started_us;
    struct upgrade_plan plan;
    uint64_t ready_until_us; /* for the new process to get ready */
    uint64_t deadline_us;    /* for what remains, once the rest has moved */
    uint64_t guard_until_us; /* the listeners are kept until then; 0: they are closed */
    uint64_t round;
    struct upgrade_status told; /* what the successor knows of who is left */
    bool legacy;                /* the successor is PgDoorman 3.10 */
    bool aside;                 /* and the Unix socket has made way for its own */
    bool alone;                 /* and it has gone */
};

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

pid_t upgrade_heir(void)
{
    return atomic_load(&heir);
}

static uint32_t remaining(void)
{
    return atomic_load(&app.clients);
}

static int left_ms(uint64_t until_us)
{
    uint64_t now_us = clock_us();

    return now_us >= until_us ? 0 : (int)((until_us - now_us) / 1000) + 1;
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

static void say_refused(const char *reason)
{
    log_error("!!! CONFIGURATION VALIDATION FAILED !!!");
    log_error("%s", reason);
    log_error("BINARY UPGRADE ABORTED - SHUTDOWN CANCELLED");
    log_error("FIX THE CONFIGURATION BEFORE ATTEMPTING BINARY UPGRADE AGAIN");
    log_error("THE SERVER WILL CONTINUE RUNNING WITH THE CURRENT BINARY");
}

/* Nothing has happened but that time has passed; unless they were lost. */
static void take_back(struct upgrade *u, const char *result, const char *reason)
{
    char text[640];
    struct failure unheard;

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
    snprintf(text, sizeof text, "upgrade failed: %s", reason);
    if (notify_serving(text, &unheard) != 0)
        log_warn("sd_notify READY failed: %s", unheard.text);
    log_error("upgrade failed, %s: %s",
              strcmp(result, "lost") == 0 ? "and the clients that had moved are lost"
                                          : "nothing has changed",
              reason);
}

/* --- beginning --- */

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
    int fds[COUNT_OF(listeners)];
    unsigned count = 0;

    for (size_t i = 0; i < COUNT_OF(listeners); i++) {
        if (listeners[i] == NULL)
            continue;
        kinds[1 + count] = i;
        fds[count++] = listeners[i]->fd;
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
    if (upgrade_spawn(&u->child, listeners[0]->fd, why) != 0)
        return -1;
    atomic_store(&child_pid, u->child.pid);
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
    if (listeners[1] == NULL || u->child.pid <= 0 || !process_ended(u->child.watch, 0))
        return -1;
    int status = upgrade_child_status(&u->child);
    bool unknown = status < 0 && notify_wanted(); /* it was nobody's child */
    if ((status != REFUSED_LOCAL && !unknown) || !listener_step_aside(listeners[1]))
        return -1;
    log_info("upgrade: once more, with the Unix socket out of the way");
    u->aside = true;
    atomic_store(&child_pid, 0);
    upgrade_child_close(&u->child);
    if (start(u, why) != 0)
        return -1;
    if (u->legacy)
        return 0;
    u->aside = false;
    listener_step_back(listeners[1]);
    return 0;
}

static int prepare(struct upgrade *u, struct failure *why)
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

static void close_listeners(void)
{
    for (size_t i = 0; i < COUNT_OF(listeners); i++) {
        if (listeners[i] == NULL)
            continue;
        listener_abandon(listeners[i]);
    }
}

static void say_moved(const struct upgrade_status *s)
{
    log_info("upgrade: moved %" PRIu64 " clients (%" PRIu64 " in transactions, %" PRIu64
             " waiting), %" PRIu64 " server connections (frozen %" PRIu64 " ms); %" PRIu64
             " clients stay for now%s%s",
             s->sessions, s->in_transaction, s->waiters, s->backends, s->longest_freeze_us / 1000,
             s->sessions_left, s->left_reasons[0] == '\0' ? "" : ": ", s->left_reasons);
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

static void drain(const struct upgrade *u)
{
    bool on = u->plan.drains || u->legacy;

    if (!on)
        return;
    directory_each(tell_pool_to_drain, &on);
    if (!u->legacy || u->child.migration >= 0)
        tell_sessions(u->legacy ? LEAVING_BARE : LEAVING);
}

static void drain_no_more(void)
{
    bool on = false;

    tell_sessions(LEAVING_NOT);
    directory_each(tell_pool_to_drain, &on);
}

/* Who is still here is told so. Nobody is waited for for long. */
static void cut_off(void)
{
    uint64_t until_us = clock_us() + LAST_WORD_US;

    tell_sessions(LEAVING_ENDS);
    while (remaining() > 0 && clock_us() < until_us && !runtime_stopping())
        handoff_pause(SETTLE_LOOK_US);
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
    drain(u);
}

/* Who is no longer the main process cannot become it again: the manager would not listen. */
static void end_guard(struct upgrade *u)
{
    struct failure why;

    if (notify_main_pid(u->child.pid, &why) != 0)
        log_warn("sd_notify MAINPID failed: %s", why.text);
    upgrade_reload_now();
    u->guard_until_us = 0;
    close_listeners();
    if (u->aside)
        listener_stay_aside(listeners[1]);
    log_info("Foreground binary upgrade complete, listener released");
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
    drain_no_more();
    take_back(u, "lost", "the new process has died when it had just taken over");
    return true;
}

/* The same of PgDoorman 3.10, which says nothing. Without it, who is here is served to the end. */
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
        "Graceful shutdown timed out. %u %s remain (%u in transactions), closing forcibly: %s",
        remaining(), CLIENTS(remaining()), app_leases(), status.left_reasons);
    cut_off();
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

/* Round after round, for whoever could not move before. False: the successor has gone. */
static bool move_the_rest(struct upgrade *u)
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

static void end(struct upgrade *u)
{
    struct upgrade_status s;
    struct failure why;

    /* With the sender gone, its word of the new main process might not count; and the successor,
     * which says next that all is done, is listened to only as that. */
    if (notify_barrier(BARRIER_MS, &why) != 0)
        log_warn("sd_notify BARRIER failed: %s", why.text);
    upgrade_status_get(&s);
    uint64_t bye[] = {s.sessions,          s.waiters, s.in_transaction,           s.backends,
                      s.longest_freeze_us, s.rounds,  clock_us() - u->started_us, remaining()};
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
             s.longest_freeze_us / 1000, remaining());
    runtime_stop();
}

static void *run(void *argument)
{
    struct upgrade u = {.started_us = clock_us(), .child = UPGRADE_NO_CHILD};
    struct upgrade_status status;
    struct failure why = {0};

    (void)argument;
    upgrade_reserve_use();
    make_plan(&u.plan);
    upgrade_status_get(&status);
    u.generation = status.generation + 1;
    if (notify_reloading("an upgrade is under way", &why) != 0)
        log_warn("sd_notify RELOADING failed: %s", why.text);
    if (prepare(&u, &why) != 0)
        take_back(&u, "aborted", why.text);
    else if (commit(&u, &why) == 0) {
        hand_over_sessions(&u);
        upgrade_test_point("moved", u.child.pid);
        bool moved = move_the_rest(&u);
        if (moved || !serve_again(&u)) {
            if (!moved)
                cut_off();
            upgrade_test_point("bye", u.child.pid);
            end(&u);
            return NULL;
        }
    }
    atomic_store(&running, false);
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
