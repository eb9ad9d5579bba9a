#define LOG_MODULE "pg_doorman::app"
#include "actors/app.h"
#include "actors/daemon.h"
#include "actors/daemonize.h"
#include "actors/inherited.h"
#include "actors/listener.h"
#include "actors/migration_receive.h"
#include "actors/options.h"
#include "actors/pool.h"
#include "actors/upgrade.h"
#include "actors/version.h"
#include "runtime/crash.h"
#include "runtime/log.h"
#include "runtime/notify.h"
#include "runtime/offload.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifndef DOORMAN_IO_DEFAULT
#define DOORMAN_IO_DEFAULT "auto"
#endif

enum { STATUS_INTERNAL = 1, STATUS_CONFIG = 78, HELPER_THREADS = 8 };

/* What main starts and ends. */
struct process {
    struct options options;
    struct daemon daemon;
    struct listener *tcp;
    struct listener *local;
    struct listener *old_tcp; /* of a predecessor whose configuration had other places; or NULL */
    struct listener *old_local;
    int local_fd; /* that a predecessor has handed over; -1: none */
    bool successor;
    bool orphan; /* whose predecessor died before it could say anything */
};
static struct process process;

/* --- last words --- */

static const char *flight_name(uint8_t type, uint16_t kind)
{
    (void)type;
    return message_kind_name(kind);
}

static void report_flight(int fd)
{
    flight_dump(fd, flight_name);
}

static void crash_thread_post(struct worker *w, struct post *post)
{
    (void)w;
    crash_thread_begin();
    free(post);
}

/* Each thread that runs coroutines reports from a stack of its own. */
static void crash_prepare_workers(void)
{
    for (unsigned i = 1; i < runtime_workers(); i++) {
        struct post *post = calloc(1, sizeof *post);

        INVARIANT(post != NULL);
        post->run = crash_thread_post;
        worker_post(runtime_worker(i), post);
    }
}

/* The start failed: in words on stderr, wherever the log goes. */
NO_RETURN static void give_up(struct process *p, int status, const char *text)
{
    log_stop();
    listener_end(p->local);
    fprintf(stderr, "%s\n", text);
    exit(status);
}

/* --- before there are threads --- */

static bool environment_says(const char *name, const char *value)
{
    const char *given = getenv(name);

    return given != NULL && strcmp(given, value) == 0;
}

static int test_config(const struct config *config, const char *path)
{
    for (size_t i = 0; i < config->warnings.count; i++)
        fprintf(stderr, "warning: %s\n", config->warnings.items[i]);
    printf("pg_doorman: the configuration file %s syntax is ok\n", path);
    printf("pg_doorman: configuration file %s test is successful\n", path);
    return fflush(stdout) == 0 ? 0 : STATUS_INTERNAL;
}

static struct config *load(const struct options *o)
{
    struct config *config = NULL;
    struct failure why = {0};

    if (config_load(&config, o->config_file, &why) != 0) {
        fprintf(stderr, "Config parse error: %s\n", why.text);
        exit(STATUS_CONFIG);
    }
    return config;
}

static void know_yourself(const struct options *o, char **argv)
{
    app.config_path = o->config_file;
    app.argv0 = argv[0];
    app.daemonized = o->daemon;
    app.interactive = environment_says("PG_DOORMAN_CI_SHUTDOWN_ONLY", "1") ||
                      (!o->daemon && isatty(STDIN_FILENO) == 1);
    app.started_us = clock_us();
    app.started_at = (uint64_t)time(NULL);
}

static void go_to_background(struct process *p)
{
    struct failure why = {0};

    p->daemon = (struct daemon){.ready_fd = -1, .pid_fd = -1};
    /* A successor stands where its predecessor went. */
    if (p->options.daemon && !p->successor && daemon_fork(&p->daemon, &why) != 0) {
        fprintf(stderr, "Error daemonize: %s\n", why.text);
        exit(DAEMON_FAILED_STATUS);
    }
}

static void start_log(const struct process *p, const struct config *config)
{
    struct log_options options = {
        .form = p->options.log_form,
        .colour = !p->options.no_color,
        .syslog_name = config->general.syslog_prog_name,
        .filter = p->options.log_level_name,
    };
    struct failure why = {0};

    if (log_start(&options, &why) != 0) {
        fprintf(stderr, "%s\n", why.text);
        exit(STATUS_INTERNAL);
    }
    log_info("Welcome to PgDoorman! (Version %s)", DOORMAN_VERSION);
    if (p->options.daemon && notify_wanted())
        log_warn("--daemon and NOTIFY_SOCKET do not go together: the service manager should run "
                 "the pooler in the foreground");
    warnings_log(config);
}

/* --- the start --- */

static void register_types(void)
{
    actor_type_register(&session_type);
    actor_type_register(&backend_type);
    actor_type_register(&pool_type);
    actor_type_register(&listener_type);
    actor_type_register(&daemon_type);
    actor_type_register(&admin_type);
    actor_type_register(&coordinator_type);
    actor_type_register(&auth_query_type);
}

static const char *engine_wanted(const struct general_config *general)
{
    const char *given = getenv("PG_DOORMAN_IO");

    if (given != NULL && *given != '\0')
        return given;
    if (general->io_engine != NULL && strcmp(general->io_engine, "auto") != 0)
        return general->io_engine;
    return DOORMAN_IO_DEFAULT;
}

static void prepare_runtime(struct process *p, const struct general_config *general)
{
    struct runtime_options options = {
        .workers = (unsigned)MIN(general->worker_threads, (uint64_t)WORKERS_MAX),
        .engine = engine_wanted(general),
        .pin = general->worker_cpu_affinity_pinning,
    };
    uint64_t helpers = general->max_blocking_threads;
    struct failure why = {0};

    if (general->worker_stack_size != SETTING_UNSET)
        options.thread_stack_bytes = general->worker_stack_size;
    if (runtime_init(&options, &why) != 0 || watch_start(&why) != 0)
        give_up(p, STATUS_INTERNAL, why.text);
    log_info("I/O engine: %s, %u workers", runtime_engine_name(), runtime_workers());
    offload_start(helpers == SETTING_UNSET || helpers == 0 ? HELPER_THREADS
                                                           : (unsigned)MIN(helpers, (uint64_t)512));
    register_types();
}

static void open_listeners(struct process *p, const struct general_config *general)
{
    bool replaces = p->options.inherit_fd >= 0 && !p->successor;
    struct failure why = {0};
    int status = 0;

    p->tcp = p->options.inherit_fd >= 0 ? listener_adopt(p->options.inherit_fd, &status, &why)
                                        : listener_open_tcp(general, &status, &why);
    if (p->tcp != NULL && p->options.inherit_fd >= 0 && !listener_stands(p->tcp, general)) {
        p->old_tcp = p->tcp;
        p->tcp = listener_open_tcp(general, &status, &why);
    }
    if (p->tcp == NULL)
        give_up(p, status, why.text);
    log_info("Running on %s", p->tcp->address);
    if (general->unix_socket_dir != NULL && p->local_fd >= 0)
        p->local = listener_adopt_local(p->local_fd, general);
    if (p->local == NULL && p->local_fd >= 0) {
        p->old_local = listener_adopt_path(p->local_fd);
        if (p->old_local == NULL)
            close(p->local_fd);
    }
    if (general->unix_socket_dir != NULL && p->local == NULL) {
        p->local = listener_open_local(general, replaces, &status, &why);
        if (p->local == NULL)
            give_up(p, status, why.text);
    }
    upgrade_listeners(p->tcp, p->local);
}

static void launch_admin(struct worker *w)
{
    struct actor *a = actor_new(&admin_type, w->index);

    app.admin = actor_id_of(a);
    actor_launch(w, a);
}

static void launch_actors(struct process *p, struct worker *w, struct config *config)
{
    struct failure why = {0};

    if (daemon_launch(w, &why) != 0)
        give_up(p, STATUS_INTERNAL, why.text);
    launch_admin(w);
    pools_configure(w, config);
    crash_prepare_workers();
    if (runtime_start(&why) != 0)
        give_up(p, STATUS_INTERNAL, why.text);
}

/* To everyone who waits for it: a predecessor, the service manager, the caller of --daemon. */
static void tell_ready(struct process *p, const struct general_config *general)
{
    struct failure why = {0};

    log_info("Accepting connections");
    if (notify_ready(&why) != 0)
        log_error("sd_notify READY failed: %s", why.text);
    if (daemon_ready(&p->daemon, general->daemon_pid_file, &why) != 0) {
        char text[sizeof why.text + 32];

        snprintf(text, sizeof text, "Error daemonize: %s", why.text);
        give_up(p, DAEMON_FAILED_STATUS, text);
    }
    inherited_report_ready();
}

/* Clients may come from now on. */
static void accept_clients(struct process *p)
{
    listener_launch(NULL, p->tcp);
    if (p->local != NULL)
        listener_launch(NULL, p->local);
    listener_retire(NULL, p->old_tcp);
    listener_retire(NULL, p->old_local);
}

/* On the upgrade's thread: the service is ours. */
static void take_over(void)
{
    struct process *p = &process;
    struct config *config = app_config();
    struct failure why;

    accept_clients(p);
    log_info("Accepting connections");
    atomic_store(&app.handing_over, false);
    if (p->options.daemon && daemon_adopt(&p->daemon, config->general.daemon_pid_file, &why) != 0)
        log_error("%s", why.text);
    config_unref(config);
}

/* On the upgrade's thread: it is ours still, or again. A successor that took over and died at once
 * may have written its own number. */
static void serve_on(void)
{
    struct process *p = &process;
    struct failure why;

    if (p->daemon.pid_path == NULL || pid_file_is_own(p->daemon.pid_path))
        return;
    char *path = strdup(p->daemon.pid_path);
    INVARIANT(path != NULL);
    if (daemon_adopt(&p->daemon, path, &why) != 0)
        log_error("%s", why.text);
    free(path);
}

static void greet_predecessor(struct process *p)
{
    struct failure why = {0};

    p->local_fd = -1;
    if (!p->successor)
        return;
    switch (successor_greet(&p->local_fd, &why)) {
    case GREETED: break;
    case GREETED_NOBODY: p->orphan = true; break;
    case GREETING_FAILED: give_up(p, STATUS_INTERNAL, why.text);
    }
}

static void start_successor(struct process *p)
{
    struct failure why = {0};

    inherited_report_ready();
    if (p->orphan) {
        log_warn("upgrade: the old process has died, this one serves");
        take_over();
        successor_announce(true);
        return;
    }
    if (successor_start(take_over, &why) != 0)
        give_up(p, STATUS_INTERNAL, why.text);
}

/* Those of PgDoorman 3.10. It does not listen any more, so this process serves in any case. */
static void receive_clients(void)
{
    struct failure why;
    int fd = inherited_migration_fd();

    if (fd >= 0 && migration_receive_start(fd, &why) != 0)
        log_error("%s", why.text);
}

static void start(struct process *p, struct config *config)
{
    greet_predecessor(p);
    prepare_runtime(p, &config->general);
    app_publish(config_ref(config));
    struct worker *w = runtime_worker(0);
    open_listeners(p, &config->general);
    summary_log(config);
    launch_actors(p, w, config);
    upgrade_reserve();
    upgrade_when_back(serve_on);
    if (p->successor) {
        start_successor(p);
        return;
    }
    accept_clients(p);
    tell_ready(p, &config->general);
    receive_clients();
}

/* Those who could still reach for a worker end before the workers do. */
static int finish(struct process *p)
{
    bool taken_over = upgrade_finish();
    successor_finish();
    migration_receive_finish();
    watch_stop();
    offload_stop();
    runtime_fini();
    listener_end(p->tcp);
    listener_end(p->old_tcp);
    listener_end(p->old_local);
    if (!taken_over)
        listener_end(p->local);
    daemon_end(&p->daemon);
    log_info("Shutting down...");
    log_stop();
    return taken_over && getpid() == 1 ? upgrade_stand_by() : 0;
}

static int run(struct process *p, char **argv)
{
    p->successor = !p->options.test_config && successor_wanted();
    inherited_close(p->options.inherit_fd, successor_link());
    struct config *config = load(&p->options);
    if (p->options.test_config) {
        int status = test_config(config, p->options.config_file);

        config_unref(config);
        return status;
    }
    know_yourself(&p->options, argv);
    upgrade_know(argv, p->options.config_file, p->options.daemon);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, as may be inherited, no child could be waited for */
    go_to_background(p);
    signals_block();
    start_log(p, config);
    start(p, config);
    config_unref(config);
    runtime_run();
    return finish(p);
}

int main(int argc, char **argv)
{
    struct failure why = {0};

    crash_install();
    crash_on_report(report_flight);
    if (options_parse(&process.options, argc, argv, &why) != 0) {
        fprintf(stderr, "%s\n", why.text);
        return OPTIONS_USAGE_STATUS;
    }
    if (process.options.command != COMMAND_RUN)
        return options_answer(&process.options);
    return run(&process, argv);
}
