#include "tests/simulation/run.h"

#include "actors/admin.h"
#include "actors/daemon.h"
#include "actors/listener.h"
#include "actors/upgrade.h"
#include "runtime/log.h"
#include "tests/simulation/accounts.h"
#include "tests/simulation/check.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/lookups.h"
#include "tests/simulation/postgres.h"
#include "tests/simulation/processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STEPS_MAX = 1500000, BEAT_US = 20000, CALM_US = 600000000 };

bool upgrades_wanted;
static char path[64];
static bool calm;

/* --- what this run is like --- */

static unsigned between(unsigned low, unsigned high)
{
    return low + (unsigned)sim_below(high - low + 1);
}

static void draw_cap(void)
{
    if (!sim_chance(300))
        return;
    plan.cap = between(MAX(1u, plan.users * plan.min_pool_size), plan.users * plan.pool_size + 1);
    plan.cap_most = plan.cap;
    plan.reserve = sim_chance(500) ? 0 : between(1, 3);
    plan.reserve_wait_ms = sim_chance(500) ? 3000 : between(1, 200);
    plan.young_ms = sim_chance(300) ? 30000 : between(1, 100);
    plan.guaranteed = sim_chance(700) ? 0 : between(1, 3);
}

static void draw_plan(void)
{
    plan.clients = sim_chance(200) ? between(1, 3) : between(2, 20);
    plan.queries = between(1, sim_chance(200) ? 60 : 20);
    plan.think_us = sim_chance(300) ? 0 : between(1, sim_chance(500) ? 200 : 20000);
    plan.abort_pm = sim_chance(500) ? 0 : between(1, 100);
    plan.leave_pm = sim_chance(700) ? 0 : between(1, 250);
    plan.cancel_pm = sim_chance(500) ? 0 : between(1, 200);
    plan.error_pm = sim_chance(300) ? 0 : between(1, 200);
    plan.slow_pm = sim_chance(300) ? 0 : between(1, 200);
    plan.wait_ms = sim_chance(300) ? between(5, 200) : 5000;
    plan.session_mode = sim_chance(150);
    plan.cleanup = !sim_chance(100);
    plan.prepared = !sim_chance(150);
    plan.users = between(1, 3);
    plan.proofs = sim_chance(400);
    plan.wrong_pm = sim_chance(500) ? 0 : between(1, 200);
    plan.memory_bytes = sim_chance(850) ? 256 << 20 : between(1, 20000);
    plan.memory_short |= plan.memory_bytes < 256 << 20;
    plan.remove_pm = sim_chance(500) ? 0 : between(100, 700);
    plan.shutdown_us = sim_chance(800) ? 0 : between(1, sim_chance(700) ? 150000 : 2000000);
    plan.login_ms = sim_chance(800) ? 30000 : between(2000, 10000);
    accounts_draw(plan.users, plan.proofs);
    plan.pool_size = sim_chance(300) ? 1 : between(1, 6);
    plan.pool_size_most = plan.pool_size;
    plan.min_pool_size = sim_chance(700) ? 0 : between(0, plan.pool_size);
    plan.faults_pm = sim_chance(500) ? 0 : between(1, 60);
    plan.die_pm = sim_chance(700) ? 0 : between(1, 500);
    plan.admin_pm = sim_chance(400) ? 0 : between(1, sim_chance(300) ? 600 : 100);
    plan.local = sim_chance(300);
    plan.round_robin = sim_chance(200);
    plan.max_waiters = sim_chance(850) ? 0 : between(1, 8);
    plan.sheds = sim_chance(150);
    plan.lifetime_ms = sim_chance(700) ? 1200000 : between(20, 2000);
    plan.idle_ms = sim_chance(700) ? 600000 : between(20, 2000);
    plan.check_ms = sim_chance(700) ? 60000 : between(1, 100);
    plan.retain_ms = sim_chance(700) ? 30000 : between(10, 1000);
    plan.retain_max = sim_chance(500) ? 0 : 3;
    plan.replaces = sim_chance(30);
    if (plan.replaces) { /* and clients take their time */
        plan.lifetime_ms = between(75000, 90000);
        plan.idle_ms = 600000;
        plan.think_us = between(5000000, 20000000);
    }
    draw_cap();
    lookups_draw();
}

static void draw_upheaval(void)
{
    if (!upgrades_wanted)
        return;
    upheaval.any = true;
    plan.shutdown_us = 0;
    plan.remove_pm = 0;
    sim_plenty();
    upheaval.again_pm = sim_chance(500) ? 0 : between(1, 900);
    upheaval.fault_pm = sim_chance(300) ? 0 : between(100, 1000);
}

static void write_config(void)
{
    FILE *file = fopen(path, "w");

    INVARIANT(file != NULL);
    fprintf(file, "general:\n  host: \"127.0.0.1\"\n  port: 6432\n"
                  "  admin_username: admin\n  admin_password: secret\n  pg_hba: |\n");
    account_write_rules(file);
    lookups_write_rules(file);
    fprintf(file, "  client_login_timeout: %u\n  max_memory_usage: %u\n", plan.login_ms,
            plan.memory_bytes);
    fprintf(file, "  query_wait_timeout: %u\n  prepared_statements: %s\n", plan.wait_ms,
            plan.prepared ? "true" : "false");
    fprintf(file, "  server_lifetime: %u\n  idle_timeout: %u\n  server_idle_check_timeout: %u\n",
            plan.lifetime_ms, plan.idle_ms, plan.check_ms);
    fprintf(file, "  retain_connections_time: %u\n  retain_connections_max: %u\n", plan.retain_ms,
            plan.retain_max);
    fprintf(file, "  server_round_robin: %s\n", plan.round_robin ? "true" : "false");
    fprintf(file, "  max_waiters: %u\n  shed_expected_timeouts: %s\n", plan.max_waiters,
            plan.sheds ? "true" : "false");
    fprintf(file, "pools:\n  db0:\n    server_host: \"%s\"\n    server_port: 5432\n",
            plan.local ? "/sim" : "127.0.0.1");
    if (plan.cap > 0)
        fprintf(file,
                "    max_db_connections: %u\n    reserve_pool_size: %u\n"
                "    reserve_pool_timeout: %u\n    min_connection_lifetime: %u\n"
                "    min_guaranteed_pool_size: %u\n",
                plan.cap, plan.reserve, plan.reserve_wait_ms, plan.young_ms, plan.guaranteed);
    lookups_write_section(file);
    fprintf(file, "    pool_mode: %s\n    cleanup_server_connections: %s\n    users:\n",
            plan.session_mode ? "session" : "transaction", plan.cleanup ? "true" : "false");
    for (unsigned i = 0; i < plan.users; i++) {
        if (accounts[i].absent)
            continue;
        account_write_user(file, &accounts[i]);
        fprintf(file, "      pool_size: %u\n", plan.pool_size);
        if (plan.min_pool_size > 0)
            fprintf(file, "      min_pool_size: %u\n", plan.min_pool_size);
    }
    lookups_write_users(file);
    fclose(file);
}

static struct config *load_config(void)
{
    struct config *config = NULL;
    struct failure why;

    write_config();
    if (config_load(&config, path, &why) != 0)
        sim_fail("configuration: %s", why.text);
    return config;
}

/* --- the process --- */

static void begin_runtime(void)
{
    struct runtime_options runtime = {.engine = "sim", .workers = sim_workers()};
    struct failure why;

    if (runtime_init(&runtime, &why) != 0)
        sim_fail("runtime: %s", why.text);
    sim_start();
}

static void begin_world(uint64_t seed, bool trace)
{
    struct sim_options options = {0};

    sim_begin(seed, trace);
    sim_images_begin();
    options.workers = between(1, 4);
    options.delay_us = sim_chance(200) ? 0 : between(1, 2000);
    options.split_per_mille = sim_chance(200) ? 0 : between(0, 600);
    options.step_us = sim_chance(200) ? 0 : between(1, 40);
    options.hold_per_mille = sim_chance(300) ? 0 : between(1, 100);
    options.reset_per_mille = sim_chance(600) ? 0 : between(1, 300);
    options.refuse_per_mille = sim_chance(600) ? 0 : between(1, 200);
    options.memory_per_mille = sim_chance(800) ? 0 : between(1, 300);
    plan.memory_short = options.memory_per_mille > 0;
    options.readiness = sim_chance(400);
    options.checked = check_step;
    options.point = processes_point;
    options.troubled = clients_trouble;
    sim_configure(&options);
    begin_runtime();
}

/* As daemon_launch() does, but for the signals. */
static void launch_daemon(struct worker *w)
{
    struct actor *a = actor_new(&daemon_type, 0);
    struct root *r = CONTAINER_OF(a, struct root, actor);

    r->shutdown_timeout_ms = 10000;
    r->sweep_period_us = 1000000;
    app.daemon = actor_id_of(a);
    app.config_path = path;
    actor_launch(w, a);
}

struct listeners {
    struct listener *tcp;
    struct listener *local; /* NULL: there is none */
};

/* The actors of a process, on the listeners that it has. */
static struct listeners launch(struct config *config, int fd, int local_fd)
{
    struct worker *w = runtime_worker(0);
    struct listeners l = {NULL, NULL};

    worker_adopt(w);
    app_publish(config_ref(config));
    struct actor *admin = actor_new(&admin_type, 0);
    app.admin = actor_id_of(admin);
    actor_launch(w, admin);
    launch_daemon(w);
    pools_configure(w, config);
    l.tcp = listener_new(fd, false);
    if (local_fd >= 0)
        l.local = listener_new(local_fd, true);
    upgrade_listeners(l.tcp, l.local);
    worker_adopt(NULL);
    return l;
}

static void accept_clients(struct worker *w, struct listeners l)
{
    worker_adopt(w);
    listener_launch(w, l.tcp);
    if (l.local != NULL)
        listener_launch(w, l.local);
    worker_adopt(NULL);
    processes_serves();
}

static void begin_process(void)
{
    struct config *config = load_config();
    int fd = sim_near_listen();
    int local_fd = sim_near_listen();

    struct listeners l = launch(config, fd, local_fd);
    config_unref(config);
    accept_clients(runtime_worker(0), l);
    clients_begin(fd, local_fd);
}

/* --- the process that takes over: as in actors/main.c --- */

static struct listeners waiting[PROGRAMS];

static void take_over(void)
{
    accept_clients(NULL, waiting[sim_process]);
    atomic_store(&app.handing_over, false);
}

static void successor(int fd)
{
    struct failure why;
    int local_fd = -1;

    sim_join();
    check_register();
    check_queue_begin();
    struct config *config = load_config();
    enum greeting greeting = successor_wanted() ? successor_greet(&local_fd, &why)
                                                : GREETING_FAILED;
    if (greeting == GREETING_FAILED)
        sim_exit(true);
    begin_runtime();
    waiting[sim_process] = launch(config, fd, local_fd);
    config_unref(config);
    if (greeting == GREETED_NOBODY) {
        accept_clients(NULL, waiting[sim_process]);
        return;
    }
    if (successor_start(take_over, &why) != 0)
        sim_fail("successor: %s", why.text);
}

/* --- trouble, and the operator --- */

static void server_is_up(void *context)
{
    (void)context;
    pg_server.down = false;
}

struct telling {
    uint16_t kind;
    unsigned per_mille; /* of pools */
};

static void tell_pool(void *context, struct pool_shared *shared)
{
    const struct telling *telling = context;
    actor_id pool = atomic_load(&shared->pool);

    if (pool != 0 && sim_chance(telling->per_mille))
        actor_tell_kind(NULL, pool, telling->kind);
}

static void tell_some(uint16_t kind, unsigned per_mille)
{
    struct telling telling = {kind, per_mille};

    sim_note("the operator says %s", message_kind_name(kind));
    directory_each(tell_pool, &telling);
}

static void tell_pools(uint16_t kind)
{
    tell_some(kind, 1000);
}

static void resume(void *context)
{
    if (processes_operate())
        tell_pools(MSG_POOL_RESUME);
    else if (!processes_none())
        sim_at(sim_now_us() + BEAT_US, resume, context);
}

/* Lowered, raised, taken away and set again. */
static void change_cap(void)
{
    if (plan.cap_most == 0)
        return;
    plan.cap = sim_chance(200) ? 0 : between(MAX(1u, plan.users * plan.min_pool_size), 20);
    plan.cap_most = plan.cap == 0 ? UINT32_MAX / 2 : MAX(plan.cap_most, plan.cap);
}

static void load_again(void)
{
    lookups_reloaded();
    write_config();
    actor_tell_kind(NULL, app.daemon, MSG_DAEMON_RELOAD);
}

static void change_config(void)
{
    if (sim_chance(300))
        change_cap();
    if (sim_chance(500))
        plan.pool_size = MAX(plan.min_pool_size, between(1, 6));
    plan.pool_size_most = MAX(plan.pool_size_most, plan.pool_size);
    if (sim_chance(200))
        plan.local = !plan.local;
    plan.idle_ms += sim_chance(500);
    if (sim_chance(plan.remove_pm))
        accounts_change();
    lookups_reconfigure();
    sim_note("the operator reloads, pool_size %u", plan.pool_size);
    load_again();
}

static void shut_down(void *context)
{
    (void)context;
    sim_note("the operator shuts down");
    plan.draining = true;
    actor_tell_kind(NULL, app.daemon, MSG_DAEMON_SHUTDOWN);
}

static void operate(void)
{
    switch (sim_below(4)) {
    case 0:
        tell_some(MSG_POOL_PAUSE, sim_chance(500) ? 1000 : 500);
        sim_at(sim_now_us() + sim_below(sim_chance(200) ? 2000000 : 50000), resume, NULL);
        return;
    case 1: tell_some(MSG_POOL_RECONNECT, sim_chance(500) ? 1000 : 500); return;
    case 2: change_config(); return;
    default: tell_pools(MSG_POOL_TICK); return;
    }
}

static void beat(void *context)
{
    (void)context;
    if (calm)
        return;
    if (sim_chance(plan.admin_pm) && processes_operate())
        operate();
    if (lookups.any && sim_chance(lookups.change_pm))
        lookups_change();
    if (lookups.any && sim_chance(lookups.collect_pm) && processes_operate())
        tell_pools(MSG_POOL_TICK);
    if (sim_chance(plan.faults_pm)) {
        if (sim_chance(300)) {
            pg_server.down = true;
            clients_trouble();
            sim_at(sim_now_us() + sim_below(3000000), server_is_up, NULL);
        } else {
            pg_kill_one(sim_chance(500));
        }
    }
    sim_at(sim_now_us() + BEAT_US, beat, NULL);
}

/* --- the run --- */

static void run_until(bool (*done)(void))
{
    uint64_t end_us = calm ? sim_now_us() + CALM_US : UINT64_MAX;

    while (!done()) {
        bool more = sim_step();

        if (more && sim_steps() < STEPS_MAX && sim_now_us() < end_us)
            continue;
        check_tell();
        sim_fail(more ? "it does not come to an end" : "nothing happens any more");
    }
}

void run_prepare(void)
{
    struct failure why;

    if (getenv("SIMULATE_LOG") == NULL && log_set_filter("off", &why) != 0)
        exit(2);
}

/* Pools of users that were found go when they are empty; then what finds them. */
static void end_lookups(void)
{
    if (!lookups.any)
        return;
    tell_pools(MSG_POOL_RESUME); /* an upgrade may have taken the pause along */
    tell_pools(MSG_POOL_TICK);
    run_until(check_lookup_is_collected);
    lookups_remove();
    load_again();
    run_until(check_lookup_is_gone);
}

void run_seed(uint64_t seed, bool trace)
{
    begin_world(seed, trace);
    snprintf(path, sizeof path, "/tmp/simulate.%d.yaml", (int)getpid());
    draw_plan();
    draw_upheaval();
    check_register();
    pg_begin();
    begin_process();
    sim_at(sim_now_us() + BEAT_US, beat, NULL);
    if (plan.shutdown_us != 0)
        sim_at(sim_now_us() + plan.shutdown_us, shut_down, NULL);
    if (upheaval.any)
        processes_begin(successor);
    run_until(clients_done);
    calm = true;
    plan.faults_pm = 0;
    sim_calm();
    run_until(processes_settled);
    if (processes_none())
        goto out;
    run_until(check_is_quiet);
    check_at_rest();
    if (plan.draining)
        run_until(sim_stopped);
    tell_pools(MSG_POOL_DRAIN);
    run_until(check_is_quiet);
    end_lookups();
    run_until(check_is_empty);
    check_nothing_left();

out:
    unlink(path);
}
