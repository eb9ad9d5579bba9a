/* Signals that meet an upgrade; and the first process of a container, whose end would be that of
 * all others: it stays, passes on what it is told, and collects who ends. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_internal.h"

#include "actors/app.h"
#include "runtime/log.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
static _Atomic bool told_to_end; /* as the first process, perhaps before there was an heir */

/* --- reloads --- */

enum { NO_RELOAD, RELOAD_SUCCESSOR, RELOAD_WHOEVER_SERVES };
static _Atomic int reload_due;

void upgrade_reload_now(void)
{
    int due = atomic_exchange(&reload_due, NO_RELOAD);
    pid_t heir = upgrade_heir();

    if (heir > 0 && due != NO_RELOAD)
        kill(heir, SIGHUP);
    else if (due == RELOAD_WHOEVER_SERVES)
        actor_tell_kind(NULL, app.daemon, MSG_DAEMON_RELOAD);
}

/* The outcome may have come meanwhile, and not have seen what is due. */
static void reload_later(int due)
{
    int none = NO_RELOAD;

    if (!atomic_compare_exchange_strong(&reload_due, &none, due) && due == RELOAD_WHOEVER_SERVES)
        atomic_store(&reload_due, due);
    if (!upgrade_running() || upgrade_heir() > 0)
        upgrade_reload_now();
}

void upgrade_reloaded(void)
{
    if (upgrade_running())
        reload_later(RELOAD_SUCCESSOR);
}

bool upgrade_signalled(int number)
{
    pid_t heir = upgrade_heir();

    if (number == SIGHUP && upgrade_running()) {
        log_info("Got SIGHUP: the configuration is reloaded by whoever serves after the upgrade");
        reload_later(RELOAD_WHOEVER_SERVES);
        return true;
    }
    if (number == SIGTERM)
        atomic_store(&told_to_end, true);
    if (heir == 0 || getpid() != 1)
        return false;
    /* What is said to the container is meant for who serves. This one's end is no end of it. */
    kill(heir, number);
    return number != SIGTERM;
}

/* --- who ends --- */

/* Without them, processes that were left by others (a health check, a shell) would stay for ever
 * as zombies. */
void upgrade_collect_strangers(void)
{
    static int first = -1;

    if (first < 0)
        first = getpid() == 1;
    while (first == 1) {
        siginfo_t ended = {0};

        /* Ours are waited for where they were started. One that is seen before it is known that
         * there are none of ours is not ours, even if an upgrade begins now. */
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0 ||
            upgrade_running())
            return;
        waitpid(ended.si_pid, NULL, WNOHANG);
    }
}

/* --- standing by --- */

/* Does it run this program, as the successor of one that did? */
static bool is_successor(pid_t pid)
{
    char path[64];
    char words[4096];
    bool inherits = false;

    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(words, 1, sizeof words - 1, file);
    fclose(file);
    words[len] = '\0';
    for (size_t at = strlen(words) + 1; at < len; at += strlen(words + at) + 1)
        inherits |= strcmp(words + at, "--inherit-fd") == 0;
    return inherits && strcmp(words, upgrade_self.program) == 0;
}

/* 0: it has gone, or has ended and is only not collected yet. */
static pid_t parent_of(pid_t pid)
{
    char path[64];
    char line[512] = "";
    char state = 'Z';
    int parent = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fgets(line, sizeof line, file) == NULL)
        line[0] = '\0';
    fclose(file);
    /* The name, in parentheses, may have anything in it. */
    const char *end = strrchr(line, ')');
    if (end == NULL || sscanf(end + 1, " %c %d", &state, &parent) != 2 || state == 'Z')
        return 0;
    return parent;
}

/* A child that is a successor: when one has ended that had handed over, its own has become ours. */
static pid_t next_heir(void)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    pid_t heir = 0;

    if (processes == NULL)
        return 0;
    while (heir == 0 && (entry = readdir(processes)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid > 0 && parent_of(pid) == getpid() && is_successor(pid))
            heir = pid;
    }
    closedir(processes);
    return heir;
}

/* Also to one that is about to follow, or has just done so. */
static void tell_successors(int number)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;

    if (processes == NULL)
        return;
    while ((entry = readdir(processes)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid > 0 && pid != getpid() && is_successor(pid))
            kill(pid, number);
    }
    closedir(processes);
}

/* Collects who has ended. False: nobody serves any more, and *status is that of who did last. */
static bool collect(pid_t *serves, int *status, int end)
{
    int how;
    pid_t ended;

    while ((ended = waitpid(-1, &how, WNOHANG)) > 0) {
        if (ended != *serves)
            continue;
        *status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
        *serves = next_heir();
        if (*serves == 0)
            return false;
        /* It may have come into being while the others were told. */
        if (end != 0)
            kill(*serves, end);
    }
    return ended == 0 || errno != ECHILD;
}

int upgrade_stand_by(void)
{
    sigset_t set;
    pid_t serves = upgrade_heir();
    int status = 0;
    int end = atomic_load(&told_to_end) ? SIGTERM : 0; /* by which all were told to end */

    sigemptyset(&set);
    for (size_t i = 0; i < COUNT_OF(passed_on); i++)
        sigaddset(&set, passed_on[i]);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    /* Links and watches: what would otherwise end with the process. */
    close_range(STDERR_FILENO + 1, UINT_MAX, 0);
    if (end != 0)
        tell_successors(end);
    while (collect(&serves, &status, end)) {
        int number = SIGCHLD;

        if (sigwait(&set, &number) != 0 || number == SIGCHLD)
            continue;
        if (number == SIGTERM || (number == SIGINT && app.interactive))
            end = number;
        if (number == end || number == SIGHUP)
            tell_successors(number);
        else if (collect(&serves, &status, end))
            kill(serves, number);
        else
            break;
    }
    return status;
}
