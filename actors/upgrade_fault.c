#include "actors/upgrade_internal.h"

#include <signal.h>
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

void upgrade_test_point(const char *point, pid_t other)
{
    const char *fault = getenv("PG_DOORMAN_UPGRADE_FAULT");
    size_t len = strlen(point);

    if (fault == NULL || strncmp(fault, point, len) != 0 || fault[len] != ':')
        return;
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        pid_t victim = actions[i].other ? other : getpid();

        if (strcmp(fault + len + 1, actions[i].name) != 0 || victim <= 1)
            continue;
        kill(victim, actions[i].signal);
        if (actions[i].other)
            await_effect(victim, actions[i].signal);
    }
}
