#include "actors/upgrade_internal.h"

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

bool upgrade_test_point(const char *point, pid_t other)
{
    char space[64];
    const char *fault = fault_wanted(space, sizeof space);
    size_t len = strlen(point);

    if (fault == NULL || strncmp(fault, point, len) != 0 || fault[len] != ':')
        return false;
    const char *action = fault + len + 1;
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
