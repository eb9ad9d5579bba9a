#include "actors/upgrade_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    const char *name;
    int signal;
    bool other;
} actions[] = {
    {"die", SIGKILL, false},
    {"stand", SIGSTOP, false},
    {"kill-other", SIGKILL, true},
    {"stop-other", SIGSTOP, true},
};

static const struct {
    const char *name;
    int number;
} errors[] = {
    {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN}, {"ETOOMANYREFS", ETOOMANYREFS}};

/* A signal takes effect when its receiver next returns from the kernel; it might do the very thing
 * first that it is to be kept from. Only a child's state can be waited for, and it stays reapable.
 */
static void await_effect(pid_t child, int signal)
{
    siginfo_t seen;
    int what = signal == SIGSTOP ? WSTOPPED : 0;

    waitid(P_PID, (id_t)child, &seen, what | WEXITED | WNOWAIT);
}

/* The variable's value, or with '@' in front what is in that file now. */
static const char *fault_wanted(char *space, size_t size)
{
    const char *text = getenv("PG_DOORMAN_UPGRADE_FAULT");

    if (text == NULL || text[0] != '@')
        return text;
    FILE *file = fopen(text + 1, "re");
    if (file == NULL)
        return NULL;
    const char *line = fgets(space, (int)size, file);
    fclose(file);
    if (line != NULL)
        space[strcspn(space, "\n")] = '\0';
    return line;
}

/* What is to happen there; NULL: nothing. */
static const char *action_at(const char *point, char *space, size_t size)
{
    const char *fault = fault_wanted(space, size);
    size_t len = strlen(point);

    return fault != NULL && strncmp(fault, point, len) == 0 && fault[len] == ':' ? fault + len + 1
                                                                                 : NULL;
}

int handoff_refused(const char *what)
{
    char space[64];
    const char *action = action_at(what, space, sizeof space);

    static _Atomic unsigned long refused;

    for (size_t i = 0; action != NULL && i < COUNT_OF(errors); i++) {
        size_t len = strlen(errors[i].name);

        if (strncmp(action, errors[i].name, len) != 0)
            continue;
        if (action[len] == '*' && refused >= strtoul(action + len + 1, NULL, 10))
            return 0;
        refused++;
        return errors[i].number;
    }
    return 0;
}

bool upgrade_test_point(const char *point, pid_t other)
{
    char space[64];
    const char *action = action_at(point, space, sizeof space);

    if (action == NULL)
        return false;
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        pid_t victim = actions[i].other ? other : getpid();

        if (strcmp(action, actions[i].name) != 0 || victim <= 1)
            continue;
        if (!actions[i].other) {
            /* To this thread, which so does nothing more before all stand still. */
            pthread_kill(pthread_self(), actions[i].signal);
            continue;
        }
        kill(victim, actions[i].signal);
        await_effect(victim, actions[i].signal);
    }
    return strcmp(action, "refuse") == 0;
}
