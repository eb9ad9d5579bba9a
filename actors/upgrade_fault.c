#include "actors/upgrade_internal.h"

#include <signal.h>
#include <stdlib.h>
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

void upgrade_test_point(const char *point, pid_t other)
{
    const char *fault = getenv("PG_DOORMAN_UPGRADE_FAULT");
    size_t len = strlen(point);

    if (fault == NULL || strncmp(fault, point, len) != 0 || fault[len] != ':')
        return;
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        pid_t victim = actions[i].other ? other : getpid();

        if (strcmp(fault + len + 1, actions[i].name) == 0 && victim > 1)
            kill(victim, actions[i].signal);
    }
}
