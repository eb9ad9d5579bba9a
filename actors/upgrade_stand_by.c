/* The first process of a container stays when another serves. */
#include "actors/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};

/* Its successor, or that one's. 0: nobody. */
static pid_t only_child(void)
{
    char path[64];
    int pid = 0;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%d", &pid) != 1)
        pid = 0;
    fclose(file);
    return pid;
}

int upgrade_stand_by(void)
{
    sigset_t set;
    int last = 0;

    sigemptyset(&set);
    for (size_t i = 0; i < COUNT_OF(passed_on); i++)
        sigaddset(&set, passed_on[i]);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (;;) {
        int status;
        pid_t ended;
        int number = SIGCHLD;

        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            last = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno == ECHILD)
            return last;
        if (sigwait(&set, &number) != 0 || number == SIGCHLD)
            continue;
        pid_t successor = only_child();
        if (successor > 0)
            kill(successor, number);
    }
}
