#include "tests/simulation/run.h"

#include "actors/daemon.h"
#include "actors/listener.h"
#include "runtime/log.h"
#include "tests/simulation/check.h"
#include "tests/simulation/clients.h"
#include "tests/simulation/postgres.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STEPS_MAX = 5000000, BEAT_US = 20000 };

static char path[64];
static bool calm;

/* --- what this run is like --- */

static unsigned between(unsigned low, unsigned high)
{
    return low + (unsigned)sim_below(high - low + 1);
}

static void draw_plan(void)
{
    plan.clients = sim_chance(200) ? between(1, 3) : between(2, 20);
    plan.queries = between(1, sim_chance(200) ? 60 : 20);
    plan.think_us = sim_chance(300) ? 0 : between(1, 20000);
    plan.abort_pm = sim_chance(500) ? 0 : between(1, 100);
    plan.cancel_pm = sim_chance(500) ? 0 : between(1, 200);
    plan.error_pm = sim_chance(300) ? 0 : between(1, 200);
    plan.slow_pm = sim_chance(300) ? 0 : between(1, 200);
    plan.wait_ms = sim_chance(300) ? between(5, 200) : 5000;
    plan.session_mode = sim_chance(150);
    plan.cleanup = !sim_chance(100);
    plan.prepared = !sim_chance(150);
    plan.users = between(1, 3);
    plan.pool_size = sim_chance(300) ? 1 : between(1, 6);
    plan.min_pool_size = sim_chance(700) ? 0 : between(0, plan.pool_size);
    plan.faults_pm = sim_chance(500) ? 0 : between(1, 60);
    plan.admin_pm = sim_chance(500) ? 0 : between(1, 100);
}

static void write_config(void)
{
    FILE *file = fopen(path, "w");

    INVARIANT(file != NULL);
    fprintf(file, "general:\n  host: \"127.0.0.1\"\n  port: 6432\n"
                  "  admin_username: admin\n  admin_password: secret\n"
                  "  pg_hba: |\n    host all all 0.0.0.0/0 trust\n    local all all trust\n");
    fprintf(file, "  query_wait_timeout: %u\n  prepared_statements: %s\n", plan.wait_ms,
            plan.prepared ? "true" : "false");
    fprintf(file, "pools:\n  db0:\n    server_host: \"%s\"\n    server_port: 5432\n",
            sim_chance(500) ? "127.0.0.1" : "/sim");
    fprintf(file, "    pool_mode: %s\n    cleanup_server_connections: %s\n    users:\n",
            plan.session_mode ? "session" : "transaction", plan.cleanup ? "true" : "false");
    for (unsigned i = 0; i < plan.users; i++) {
        fprintf(file, "    - username: u%u\n      password: \"\"\n      pool_size: %u\n", i,
                plan.pool_size);
        if (plan.min_pool_size > 0)
            fprintf(file, "      min_pool_size: %u\n", plan.min_pool_size);
    }
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

static void begin_world(uint64_t seed, bool trace)
{
    struct sim_options options = {0};
    struct runtime_options runtime = {.engine = "sim"};
    struct failure why;

    sim_begin(seed, trace);
    options.workers = between(1, 4);
    options.delay_us = sim_chance(200) ? 0 : between(1, 2000);
    options.split_per_mille = sim_chance(200) ? 0 : between(0, 600);
    options.step_us = sim_chance(200) ? 0 : between(1, 40);
    options.hold_per_mille = sim_chance(300) ? 0 : between(1, 100);
    options.reset_per_mille = sim_chance(600) ? 0 : between(1, 300);
    options.refuse_per_mille = sim_chance(600) ? 0 : between(1, 200);
    options.checked = check_step;
    options.troubled = clients_trouble;
    sim_configure(&options);
    runtime.workers = options.workers;
    if (runtime_init(&runtime, &why) != 0)
        sim_fail("runtime: %s", why.text);
    worker_adopt(NULL);
}

static void launch(void *context)
{
    struct worker *w = runtime_worker(0);
    struct config *config = load_config();

    (void)context;
    worker_adopt(w);
    app_publish(config_ref(config));
    struct actor *admin = actor_new(&admin_type, 0);
    app.admin = actor_id_of(admin);
    actor_launch(w, admin);
    pools_configure(w, config);
    config_unref(config);
    int fd = sim_near_listen();
    struct listener *l = listener_new(fd, false);
    listener_launch(w, l);
    worker_adopt(NULL);
    clients_begin(fd);
}

/* --- trouble, and the operator --- */

static void server_is_up(void *context)
{
    (void)context;
    pg_server.down = false;
}

static void beat(void *context)
{
    (void)context;
    if (calm)
        return;
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
    while (!done()) {
        bool more = sim_step();

        if (more && sim_steps() < STEPS_MAX)
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

void run_seed(uint64_t seed, bool trace)
{
    begin_world(seed, trace);
    snprintf(path, sizeof path, "/tmp/simulate.%d.yaml", (int)getpid());
    draw_plan();
    check_register();
    pg_begin();
    launch(NULL);
    sim_at(sim_now_us() + BEAT_US, beat, NULL);
    run_until(clients_done);
    calm = true;
    sim_calm();
    run_until(check_is_quiet);
    check_at_rest();
    unlink(path);
}
