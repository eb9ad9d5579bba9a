#define LOG_MODULE "pg_doorman::app"
#include "actors/daemon.h"

#include "actors/upgrade.h"
#include "runtime/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static struct io_poll signals;

static void wanted(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR2);
}

void signals_block(void)
{
    sigset_t set;

    wanted(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* The end does not queue behind whatever the daemon is busy with. */
static void terminate(void)
{
    log_info("Got SIGTERM, closing with %u clients in transactions", app_leases());
    runtime_stop();
}

static void signalled(struct worker *w, struct io_poll *poll, int result)
{
    struct signalfd_siginfo info;

    if (result == -ECANCELED)
        return;
    while (read(poll->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (upgrade_signalled((int)info.ssi_signo))
            continue;
        if (info.ssi_signo == SIGTERM)
            terminate();
        else
            actor_tell(w, app.daemon, MESSAGE(DAEMON_SIGNAL, .number = info.ssi_signo));
    }
    w->engine->poll(w, poll);
}

int signals_read(struct worker *w, struct failure *why)
{
    sigset_t set;

    wanted(&set);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return fail(why, "cannot read signals: %s", strerror(errno));
    signals = (struct io_poll){.fd = fd, .events = POLLIN, .done = signalled};
    w->engine->poll(w, &signals);
    return 0;
}
