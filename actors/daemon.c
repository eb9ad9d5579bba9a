#define LOG_MODULE "pg_doorman::app"
#include "actors/daemon.h"

#include "actors/passing.h"
#include "actors/pool.h"
#include "actors/upgrade.h"
#include "runtime/log.h"

#include <signal.h>
#include <stdlib.h>

enum {
    BEAT_US = 250000,
    DRAIN_TELL_US = 1000000,
    OVERDUE_MAX = 256, /* logins ended in one beat */
};

static struct root *root_of(struct actor *a)
{
    return CONTAINER_OF(a, struct root, actor);
}

/* --- pools --- */

struct pool_list {
    actor_id *ids;
    size_t count;
    size_t size;
};

static void pool_list_add(void *context, struct pool_shared *shared)
{
    struct pool_list *list = context;
    actor_id pool = atomic_load(&shared->pool);

    if (pool == 0)
        return;
    if (list->count == list->size) {
        list->size = MAX(list->size * 2, (size_t)64);
        list->ids = realloc(list->ids, list->size * sizeof *list->ids);
        INVARIANT(list->ids != NULL);
    }
    list->ids[list->count++] = pool;
}

/* In an order of its own each time, so that a shared quota does not always go to the same. */
static void tell_pools(struct worker *w, uint16_t kind)
{
    struct pool_list list = {0};

    directory_each(pool_list_add, &list);
    for (size_t i = list.count; i > 0; i--) {
        size_t pick = random_u64(w) % i;

        actor_tell_kind(w, list.ids[pick], kind);
        list.ids[pick] = list.ids[i - 1];
    }
    free(list.ids);
}

/* --- drain: nobody new comes in, everybody may finish --- */

static void tell_sessions_to_drain(struct worker *w)
{
    size_t count = 0;
    actor_id *sessions = actor_list(&session_type, &count);

    for (size_t i = 0; i < count; i++)
        actor_tell_kind(w, sessions[i], MSG_SESSION_DRAIN);
    free(sessions);
}

/* As far as can be told while they work. */
static void say_idle(void)
{
    size_t count = 0;
    uint32_t idle = 0;
    actor_id *pools = actor_list(&pool_type, &count);

    PASSING_BEGIN();
    for (size_t i = 0; i < count; i++) {
        struct actor *a = actor_find(pools[i]);

        idle += a == NULL ? 0 : PASSING(pool_of(a)->idle_count);
    }
    PASSING_END();
    free(pools);
    if (idle > 0)
        log_info("Graceful shutdown: drained %u idle server(s) from all pools", idle);
}

static void drain(struct worker *w, struct root *r)
{
    if (atomic_exchange(&app.draining, true))
        return;
    uint32_t clients = atomic_load(&app.clients);
    log_info("waiting for %u %s to disconnect (%u in transactions)", clients, CLIENTS(clients),
             app_leases());
    r->drain_deadline_us = w->now_us + r->shutdown_timeout_ms * 1000;
    r->drain_told_us = w->now_us;
    say_idle();
    tell_pools(w, MSG_POOL_DRAIN);
    tell_sessions_to_drain(w);
}

static void drain_beat(struct worker *w, struct root *r)
{
    uint32_t clients = atomic_load(&app.clients);

    if (clients == 0) {
        log_info("All clients disconnected, shutting down");
        runtime_stop();
    } else if (w->now_us >= r->drain_deadline_us) {
        log_error("Graceful shutdown timed out. %u %s remain (%u in transactions), closing "
                  "forcibly",
                  clients, CLIENTS(clients), app_leases());
        runtime_stop();
    } else if (w->now_us >= r->drain_told_us + DRAIN_TELL_US) {
        r->drain_told_us = w->now_us;
        tell_pools(w, MSG_POOL_DRAIN);
    }
}

/* --- from time to time --- */

static void end_overdue_logins(struct worker *w)
{
    struct config *config = app_config();
    uint64_t limit_us = config->general.client_login_timeout * 1000;
    actor_id overdue[OVERDUE_MAX];

    config_unref(config);
    if (limit_us == 0 || limit_us > w->now_us)
        return;
    size_t count = login_overdue(w->now_us - limit_us, overdue, OVERDUE_MAX);
    for (size_t i = 0; i < count; i++)
        actor_tell_kind(w, overdue[i], MSG_SESSION_LOGIN_TIMEOUT);
}

static void keep_house(struct worker *w, struct root *r)
{
    struct config *config = app_config();
    uint64_t period_us = config->general.retain_connections_time * 1000;
    uint64_t quota = config->general.retain_connections_max;

    config_unref(config);
    if (w->now_us < r->house_kept_us + period_us)
        return;
    r->house_kept_us = w->now_us;
    atomic_store(&pool_trim_quota,
                 quota == 0 ? UINT32_MAX : (uint32_t)MIN(quota, (uint64_t)UINT32_MAX - 1));
    tell_pools(w, MSG_POOL_TICK);
    coordinators_tick(w);
}

static void beat(struct worker *w, struct root *r)
{
    actor_alarm(w, actor_id_of(&r->actor), w->now_us + BEAT_US, 0);
    end_overdue_logins(w);
    keep_house(w, r);
    upgrade_collect_strangers();
    if (w->now_us >= r->roll_at_us) {
        times_roll();
        r->roll_at_us = w->now_us + HISTOGRAM_SLOT_US;
    }
    if (w->now_us >= r->statistics_at_us) {
        tell_pools(w, MSG_POOL_REPORT);
        r->statistics_at_us = w->now_us + STATISTICS_US;
    }
    if (w->now_us >= r->sweep_at_us) {
        statement_text_sweep(w->now_us, atomic_load(&app.anonymous_ttl_s) * UINT64_C(1000000));
        r->sweep_at_us = w->now_us + r->sweep_period_us;
    }
    if (atomic_load(&app.draining))
        drain_beat(w, r);
}

/* --- what it is told --- */

static void on_reload(struct worker *w, struct root *r, struct message *m)
{
    struct failure why = {0};
    bool changed;

    if (reload(w, &changed, &why) == 0)
        why.text[0] = '\0';
    upgrade_reloaded();
    if (m->sender == 0)
        return;
    struct message *answer = MESSAGE(DAEMON_RELOADED, .error = bytes_of(why.text),
                                     .changed = changed);
    answer->sender = actor_id_of(&r->actor);
    actor_tell(w, m->sender, answer);
}

static void on_interrupt(struct worker *w, struct root *r)
{
    if (app.interactive) {
        log_info("Got SIGINT (Ctrl+C), starting graceful shutdown");
        drain(w, r);
        return;
    }
    log_info("Got SIGINT, starting binary upgrade and graceful shutdown");
    upgrade_start(w, "SIGINT");
}

static void on_signal(struct worker *w, struct root *r, struct message *m)
{
    switch (message_get_DAEMON_SIGNAL(m).number) {
    case SIGHUP: actor_tell_kind(w, actor_id_of(&r->actor), MSG_DAEMON_RELOAD); break;
    case SIGINT: on_interrupt(w, r); break;
    case SIGUSR2:
        log_info("Got SIGUSR2, starting binary upgrade and graceful shutdown");
        upgrade_start(w, "SIGUSR2");
        break;
    default: break;
    }
}

static void on_start(struct worker *w, struct root *r)
{
    r->house_kept_us = w->now_us;
    r->statistics_at_us = w->now_us + STATISTICS_US;
    actor_alarm(w, actor_id_of(&r->actor), w->now_us + BEAT_US, 0);
}

static bool daemon_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == MSG_DAEMON_RELOAD; /* reads files on a helper thread */
}

static void daemon_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct root *r = root_of(self);

    switch (m->kind) {
    case MESSAGE_START: on_start(w, r); break;
    case MESSAGE_ALARM: beat(w, r); break;
    case MSG_DAEMON_SIGNAL: on_signal(w, r, m); break;
    case MSG_DAEMON_RELOAD: on_reload(w, r, m); break;
    case MSG_DAEMON_SHUTDOWN:
        log_info("SHUTDOWN was asked for, starting graceful shutdown");
        drain(w, r);
        break;
    default: INVARIANT(!"the daemon does not understand this kind of message");
    }
}

static uint32_t daemon_pack(const struct actor *a, struct packer *out)
{
    (void)a;
    pack_str(out, "draining");
    pack_bool(out, atomic_load(&app.draining));
    pack_str(out, "clients");
    pack_uint(out, atomic_load(&app.clients));
    return 2;
}

static const char *daemon_state(const struct actor *a)
{
    (void)a;
    return atomic_load(&app.draining) ? "draining" : "serving";
}

const struct actor_type daemon_type = {
    .name = "daemon",
    .size = sizeof(struct root),
    .rank = RANK_ROOT,
    .number = 5,
    .receive = daemon_receive,
    .blocks = daemon_blocks,
    .pack = daemon_pack,
    .state_name = daemon_state,
    .kind_name = message_kind_name,
};

int daemon_launch(struct worker *w, struct failure *why)
{
    struct root *r = root_of(actor_new(&daemon_type, w->index));
    struct config *config = app_config();

    r->shutdown_timeout_ms = config->general.shutdown_timeout;
    r->sweep_period_us = config->general.query_interner_gc_interval_seconds * 1000000 / 4;
    config_unref(config);
    app.daemon = actor_id_of(&r->actor);
    actor_launch(w, &r->actor);
    return signals_read(w, why);
}
