/* The successor's process: from the program on disk, with little more than three descriptors. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_internal.h"

#include "runtime/log.h"
#include "runtime/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VALIDATE_US = 10000000, SAID_MAX = 400, LOOK_MS = 50, LAST_MS = 1000 };

extern char **environ;

struct upgrade_self upgrade_self;

/* By name: where the shell found it. The path may be a link, which may point elsewhere by now. */
static char *absolute_path(const char *name)
{
    char path[PATH_MAX];

    if (strchr(name, '/') != NULL) {
        char cwd[PATH_MAX / 2];

        if (name[0] == '/' || getcwd(cwd, sizeof cwd) == NULL)
            return strdup(name);
        snprintf(path, sizeof path, "%s/%s", cwd, name);
        return strdup(path);
    }
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ":");

        snprintf(path, sizeof path, "%.*s/%s", (int)len, at, name);
        if (access(path, X_OK) == 0)
            return strdup(path);
        at += len + (at[len] == ':');
    }
    return strdup(name);
}

void upgrade_know(char **argv, const char *config_path, bool daemonized)
{
    upgrade_self = (struct upgrade_self){
        .argv = argv,
        .program = absolute_path(argv[0]),
        .config_path = config_path,
        .daemonized = daemonized,
    };
    INVARIANT(upgrade_self.program != NULL);
}

/* Signals stay blocked till it has handlers for them; what this process ignores it need not. */
static void spawn_attributes(posix_spawnattr_t *attributes, bool blocked)
{
    sigset_t mask;
    sigset_t defaults;

    posix_spawnattr_init(attributes);
    sigemptyset(&mask);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    if (blocked) {
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGHUP);
        sigaddset(&mask, SIGUSR2);
    }
    posix_spawnattr_setsigmask(attributes, &mask);
    posix_spawnattr_setsigdefault(attributes, &defaults);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* Inherited from this thread, which a pinned worker may have made. */
static void forget_affinity(void)
{
    cpu_set_t all;

    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
}

static bool names_variable(const char *entry, const char *name)
{
    size_t len = strlen(name);

    return strncmp(entry, name, len) == 0 && entry[len] == '=';
}

/* This environment without ours, and with `count` entries more. */
static char **environment_with(char *const *more, size_t count)
{
    static const char *const ours[] = {"PG_DOORMAN_READY_FD", "PG_DOORMAN_MIGRATION_FD",
                                       "PG_DOORMAN_CLOSE_INHERITED_FDS", "PG_DOORMAN_HANDOFF_FD"};
    size_t size = 0;
    size_t kept = 0;

    while (environ[size] != NULL)
        size++;
    char **out = calloc(size + count + 1, sizeof *out);
    INVARIANT(out != NULL);
    for (size_t i = 0; i < size; i++) {
        bool drop = false;

        for (size_t at = 0; at < COUNT_OF(ours); at++)
            drop |= names_variable(environ[i], ours[at]);
        if (!drop)
            out[kept++] = environ[i];
    }
    for (size_t i = 0; i < count; i++)
        out[kept++] = more[i];
    return out;
}

/* As pipe2() with O_CLOEXEC. */
static int make_pipe(int ends[2], const char *name)
{
    int error = handoff_refused(name);

    if (error == 0)
        return pipe2(ends, O_CLOEXEC);
    errno = error;
    return -1;
}

/* --- validation --- */

/* Its words, or as many as are kept; until it closes its end or the time is over. */
static void listen_to(int fd, char *said, size_t size, uint64_t until_us)
{
    size_t len = 0;

    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        uint64_t now_us = clock_us();
        char rest[512];

        if (now_us >= until_us || runtime_stopping())
            break;
        int count = poll(&ready, 1, LOOK_MS);
        if (count == 0 || (count < 0 && errno == EINTR))
            continue;
        if (count < 0)
            break;
        size_t room = size - 1 - len;
        ssize_t n = read(fd, room > 0 ? said + len : rest, room > 0 ? room : sizeof rest);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += room > 0 ? (size_t)n : 0;
    }
    said[len] = '\0';
}

/* Its status, or -1 when it had to be killed. */
static int collect(pid_t pid, uint64_t until_us)
{
    int status = 0;

    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG);

        if (ended == pid)
            return status;
        if (ended < 0 && errno != EINTR)
            return -1;
        if (clock_us() >= until_us || runtime_stopping())
            break;
        usleep(2000);
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return -1;
}

/* What is kept back for this is not enough: the new process will say itself what it thinks of the
 * configuration. Any other reason would stand in its way as well. */
static int cannot_check(int error, const char *what, struct failure *why)
{
    if (error == EMFILE || error == ENFILE) {
        log_warn("Skipping pre-flight configuration validation: local fd table exhausted (%s: %s)",
                 what, strerror(error));
        return 0;
    }
    return fail(why, "FAILED TO VALIDATE CONFIGURATION: %s: %s: %s", upgrade_self.program, what,
                strerror(error));
}

int upgrade_validate(struct failure *why)
{
    char test[] = "-t";
    char closes[] = "PG_DOORMAN_CLOSE_INHERITED_FDS=1";
    char *more[] = {closes};
    char *argv[] = {upgrade_self.program, test, (char *)(uintptr_t)upgrade_self.config_path, NULL};
    char said[SAID_MAX];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int ends[2];
    pid_t pid;

    log_info("Validating configuration with: %s -t %s", upgrade_self.program,
             upgrade_self.config_path);
    if (make_pipe(ends, "check-pipe") != 0)
        return cannot_check(errno, "cannot make a pipe", why);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    spawn_attributes(&attributes, false);
    char **environment = environment_with(more, COUNT_OF(more));
    int error = handoff_refused("check");
    if (error == 0)
        error = posix_spawn(&pid, upgrade_self.program, &actions, &attributes, argv, environment);
    free(environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        return cannot_check(error, "cannot execute it", why);
    }
    uint64_t until_us = clock_us() + VALIDATE_US;
    listen_to(ends[0], said, sizeof said, until_us);
    close(ends[0]);
    int status = collect(pid, until_us);
    if (status == -1)
        return fail(why, "the check of the configuration did not end in time");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        log_info("Configuration validation successful");
        return 0;
    }
    return fail(why, "file %s, %s %d: %s", upgrade_self.config_path,
                WIFEXITED(status) ? "exit code" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), said);
}

/* --- the successor --- */

/* The arguments of this process, without what an earlier upgrade put there. */
static char **arguments_with(char *option, char *value)
{
    size_t count = 0;
    size_t kept = 0;

    while (upgrade_self.argv[count] != NULL)
        count++;
    char **out = calloc(count + 3, sizeof *out);
    INVARIANT(out != NULL);
    for (size_t i = 0; i < count; i++) {
        char *argument = upgrade_self.argv[i];

        if (strcmp(argument, "--inherit-fd") == 0) {
            i++;
            continue;
        }
        if (strncmp(argument, "--inherit-fd=", strlen("--inherit-fd=")) != 0)
            out[kept++] = argument;
    }
    out[0] = upgrade_self.program;
    out[kept++] = option;
    out[kept++] = value;
    return out;
}

/* What goes to the child: its ends of what connects us, under the same numbers. */
struct gifts {
    int listener;
    int link;
    int ready;
    int migration; /* -1: none */
};

static int spawn_with(struct upgrade_child *child, const struct gifts *gifts, struct failure *why)
{
    char option[] = "--inherit-fd";
    char listener[16];
    char variables[3][64];
    char *more[] = {variables[0], variables[1], variables[2]};
    int fds[] = {gifts->listener, gifts->link, gifts->ready, gifts->migration};
    bool migrates = gifts->migration >= 0;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    snprintf(listener, sizeof listener, "%d", gifts->listener);
    snprintf(more[0], sizeof variables[0], HANDOFF_ENVIRONMENT "=%d", gifts->link);
    snprintf(more[1], sizeof variables[1], "PG_DOORMAN_READY_FD=%d", gifts->ready);
    snprintf(more[2], sizeof variables[2], "PG_DOORMAN_MIGRATION_FD=%d", gifts->migration);
    posix_spawn_file_actions_init(&actions);
    /* Onto themselves: in the child alone they survive the exec. */
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        if (fds[i] >= 0)
            posix_spawn_file_actions_adddup2(&actions, fds[i], fds[i]);
    }
    spawn_attributes(&attributes, true);
    char **environment = environment_with(more, COUNT_OF(more) - !migrates);
    char **arguments = arguments_with(option, listener);
    forget_affinity();
    int error = handoff_refused("spawn");
    if (error == 0)
        error = posix_spawn(&child->pid, upgrade_self.program, &actions, &attributes, arguments,
                            environment);
    free(arguments);
    free(environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error == 0)
        return 0;
    child->pid = -1;
    return fail(why, "Failed to spawn new process: %s", strerror(error));
}

struct apart {
    struct upgrade_child *child;
    const struct gifts *gifts;
    struct failure *why;
    int result;
};

static int spawn_apart(void *argument)
{
    struct apart *a = argument;

    a->result = spawn_with(a->child, a->gifts, a->why);
    _exit(0);
}

/* By a process in between, which has ended when this returns; so the successor is the child of who
 * looks after orphans. systemd kills a main process that is not its own child as soon as it has
 * asked it to end (`main_pid_alien`), and keeps to what was true when it was told of it. */
static int spawn_as_orphan(struct apart *a)
{
    enum { STACK_BYTES = 262144 };
    uint8_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    if (stack == MAP_FAILED)
        return fail(a->why, "no stack for the new process: %s", strerror(errno));
    /* As vfork() does: nothing is copied, and this thread waits. */
    pid_t between = clone(spawn_apart, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, a);
    if (between < 0)
        a->result = fail(a->why, "Failed to spawn new process: %s", strerror(errno));
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        ;
    munmap(stack, STACK_BYTES);
    return a->result;
}

/* Our ends into the child, the other ones into what is given to it. */
static int connect_child(struct upgrade_child *child, struct gifts *gifts, struct failure *why)
{
    int ends[2];

    int error = handoff_refused("link");
    if (error == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        error = errno;
    if (error != 0)
        return fail(why, "cannot make a socket pair: %s", strerror(error));
    child->link = ends[0];
    gifts->link = ends[1];
    if (make_pipe(ends, "ready-pipe") != 0)
        return fail(why, "Failed to create pipe for binary upgrade: %s", strerror(errno));
    child->ready_fd = ends[0];
    gifts->ready = ends[1];
    /* Of use only if the program on disk is PgDoorman 3.10. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        child->migration = ends[0];
        gifts->migration = ends[1];
    }
    return 0;
}

int upgrade_spawn(struct upgrade_child *child, int listener_fd, struct failure *why)
{
    struct gifts gifts = {listener_fd, -1, -1, -1};

    *child = (struct upgrade_child)UPGRADE_NO_CHILD;
    int result = connect_child(child, &gifts, why);
    if (result == 0) {
        log_info("Starting new process with inherited listener fd=%d", listener_fd);
        struct apart a = {.child = child, .gifts = &gifts, .why = why, .result = -1};
        result = notify_wanted() ? spawn_as_orphan(&a) : spawn_with(child, &gifts, why);
    }
    int *given[] = {&gifts.link, &gifts.ready, &gifts.migration};
    for (size_t i = 0; i < COUNT_OF(given); i++) {
        if (*given[i] >= 0)
            close(*given[i]);
    }
    if (result == 0) {
        child->watch = process_watch(child->pid);
        if (child->watch < 0)
            result = fail(why, "cannot watch the new process: %s", strerror(errno));
    }
    if (result != 0)
        upgrade_kill(child);
    return result;
}

bool upgrade_child_ready(struct upgrade_child *child)
{
    struct pollfd ready = {.fd = child->ready_fd, .events = POLLIN};
    uint8_t word = 0;

    return poll(&ready, 1, 0) > 0 && read(child->ready_fd, &word, 1) == 1;
}

int upgrade_child_status(struct upgrade_child *child)
{
    int status = 0;

    if (child->pid <= 0 || waitpid(child->pid, &status, WNOHANG) != child->pid)
        return -1;
    child->pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void upgrade_child_close(struct upgrade_child *child)
{
    int *fds[] = {&child->watch, &child->link, &child->ready_fd, &child->migration};

    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

void upgrade_kill(struct upgrade_child *child)
{
    int status = 0;

    if (child->pid > 0) {
        /* Rather not by its number, which may be another's if somebody else has collected it. */
        if (child->watch < 0)
            process_kill(child->pid);
        else if (syscall(SYS_pidfd_send_signal, child->watch, SIGKILL, NULL, 0) == 0)
            (void)process_ended(child->watch, -1);
        while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    child->pid = -1;
    upgrade_child_close(child);
}

int upgrade_child_said_nothing(const struct upgrade_child *child, struct failure *why)
{
    static const char words[] = "New process exited before readiness";
    siginfo_t how = {0};

    /* Its side closes a moment before it has ended. It is collected later. */
    if (!process_ended(child->watch, LAST_MS) ||
        waitid(P_PID, (id_t)child->pid, &how, WEXITED | WNOHANG | WNOWAIT) != 0 || how.si_pid == 0)
        return fail(why, "%s", words);
    return fail(why, "%s: %s: %d", words, how.si_code == CLD_EXITED ? "exit status" : "signal",
                how.si_status);
}

bool upgrade_child_crashed(struct upgrade_child *child)
{
    return child->pid > 0 && process_ended(child->watch, LAST_MS) &&
           upgrade_child_status(child) != 0;
}

/* --- kept back --- */

enum { RESERVE_MAX = 16, RESERVE_MIN = 6 };
static int reserve[RESERVE_MAX];
static unsigned reserved;

void upgrade_reserve(void)
{
    struct rlimit limit = {.rlim_cur = 1024};

    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t want = MIN(MAX(limit.rlim_cur / 16, (rlim_t)RESERVE_MIN), (rlim_t)RESERVE_MAX);
    while (reserved < want) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            return;
        reserve[reserved++] = fd;
    }
}

void upgrade_reserve_use(void)
{
    while (reserved > 0)
        close(reserve[--reserved]);
}
