/* Processes that take over from each other, and what they take from the kernel for that:
 * actors/handoff_system.h and the starting of programs, in the simulated world. */
#include "tests/simulation/processes.h"

#include "actors/upgrade_internal.h"
#include "runtime/world.h"
#include "tests/simulation/check.h"
#include "tests/simulation/clients.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { POINTS = 90, LATE_US = 20000, SHUTDOWN_TIMEOUT_US = 10000000 };

/* What goes wrong in an upgrade. */
enum trouble { NO_TROUBLE, DIES, STANDS, CANNOT_SEND, TROUBLES };

struct fault {
    enum trouble what;
    bool successor; /* whose */
    unsigned at;    /* that many points of it are passed before */
    uint64_t stand_us;
};

struct upheaval upheaval;
struct upgrade_self upgrade_self;

static void (*successor_main)(int listener);
static uint32_t predecessor; /* of the last upgrade */
static uint32_t successor;
static bool serves[PROGRAMS];
static uint64_t late_until_us[PROGRAMS];
static int inherited[PROGRAMS]; /* link of a process that has just begun */
static uint32_t parents[PROGRAMS];
static unsigned upgrades;
static uint64_t spawned_us;
static struct fault fault;
static unsigned passed[2];
/* The last round: */
static const struct commit_page *page;
static bool end_sent;
static bool compared;
static uint8_t *document;
static size_t document_len;

unsigned processes_upgrades(void)
{
    return upgrades;
}

uint32_t processes_word(void)
{
    return page == NULL ? COMMIT_OPEN : atomic_load(&page->word);
}

bool processes_late(void)
{
    return sim_now_us() < late_until_us[sim_process];
}

/* --- the ends of processes --- */

/* Whose clients go with it, and whose do not: docs/upgrade.md, "The commit". */
static bool takes_all_along(uint32_t pid)
{
    uint32_t word = processes_word();

    if (pid == successor)
        return word == COMMIT_ADOPTED;
    return !sim_alive(successor) || word == COMMIT_ABORTED || word == COMMIT_RECLAIMED ||
           (word == COMMIT_OPEN && !end_sent);
}

static void die(uint32_t pid)
{
    if (!sim_alive(pid))
        return;
    sim_kill(pid, takes_all_along(pid));
}

static void stand(uint32_t pid, uint64_t for_us)
{
    clients_trouble();
    late_until_us[sim_process] = sim_now_us() + for_us + LATE_US;
    sim_stand(pid, sim_now_us() + for_us);
}

/* --- faults --- */

static void draw_fault(void)
{
    static const unsigned stands_ms[] = {1, 50, 1500, 4000, 15000};

    passed[0] = 0;
    passed[1] = 0;
    fault = (struct fault){.what = NO_TROUBLE};
    if (!sim_chance(upheaval.fault_pm))
        return;
    fault.what = 1 + (enum trouble)sim_below(TROUBLES - 1);
    fault.successor = sim_chance(500);
    fault.at = (unsigned)sim_below(sim_chance(500) ? 40 : POINTS);
    fault.stand_us = 1000ull * stands_ms[sim_below(COUNT_OF(stands_ms))];
}

/* Is it due here? Of whatever has to do with the other process, each call is a point. */
static bool goes_wrong(const char *name)
{
    uint32_t pid = sim_pid();
    bool second = pid == successor;

    if (!sim_in_thread() || (pid != predecessor && pid != successor))
        return false;
    sim_note("process %u at %s", pid, name);
    if (second != fault.successor || passed[second]++ != fault.at || fault.what == NO_TROUBLE)
        return false;
    sim_note("process %u: trouble %d", pid, fault.what);
    if (fault.what == DIES)
        die(pid);
    else if (fault.what == STANDS)
        stand(pid, fault.stand_us);
    return fault.what == CANNOT_SEND;
}

static void read_document(struct state_document *d)
{
    struct failure why;

    *d = (struct state_document){.headed = false};
    if (state_read(d, document, document_len, &why) != 0)
        sim_fail("the document cannot be read: %s", why.text);
}

static void compare_round(void)
{
    struct state_document d;

    read_document(&d);
    handoff_compare();
    handoff_round_trip(&d);
    state_read_free(&d);
}

void processes_point(const char *name)
{
    goes_wrong(name);
    if (strcmp(name, "thaw") == 0)
        late_until_us[sim_process] = sim_now_us() + LATE_US;
    if (strcmp(name, "thaw") == 0 && sim_pid() == successor && !compared &&
        processes_word() == COMMIT_ADOPTED) {
        compared = true;
        check_adopted();
        compare_round();
    }
}

bool upgrade_test_point(const char *name, pid_t other)
{
    (void)other;
    return goes_wrong(name);
}

int handoff_refused(const char *what)
{
    (void)what;
    return 0; /* what a process cannot send is one of the faults above */
}

/* --- threads --- */

static void run_thread(void *context)
{
    void *(*run)(void *) = *(void *(**)(void *))context;

    free(context);
    run(NULL);
    if (!sim_stopped())
        return;
    bool in_time = sim_now_us() < spawned_us + SHUTDOWN_TIMEOUT_US;
    if (!sim_alive(successor) || fault.what == STANDS || !in_time)
        die(sim_pid()); /* in the middle of a round, perhaps */
    sim_exit(true);
}

int handoff_thread_begin(pthread_t *out, const char *name, void *(*run)(void *))
{
    void *(**copy)(void *) = malloc(sizeof *copy);

    (void)name;
    INVARIANT(copy != NULL);
    *copy = run;
    if (out != NULL)
        *out = pthread_self();
    sim_thread(run_thread, copy);
    return 0;
}

void handoff_thread_join(pthread_t thread)
{
    (void)thread;
}

static bool never(void *context)
{
    (void)context;
    return false;
}

void handoff_pause(unsigned us)
{
    sim_wait(never, NULL, sim_now_us() + us);
}

/* --- links --- */

int handoff_link_inherited(void)
{
    return inherited[sim_process];
}

/* [kind, ...: small numbers are their own bytes. */
static unsigned kind_of(const struct msghdr *message)
{
    const uint8_t *at = message->msg_iov[0].iov_base;

    return at[1];
}

/* The checker looks over the predecessor's shoulder. */
static void observe_round(const struct msghdr *message)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    struct state_document d;
    int fds[2];

    memcpy(fds, CMSG_DATA(c), sizeof fds);
    if (page != NULL)
        munmap((void *)(uintptr_t)page, sizeof *page);
    page = mmap(NULL, sizeof *page, PROT_READ, MAP_SHARED, fds[0], 0);
    INVARIANT(page != MAP_FAILED);
    end_sent = false;
    compared = false;
    document_len = (size_t)lseek(fds[1], 0, SEEK_END);
    document = realloc(document, document_len);
    INVARIANT(document != NULL &&
              pread(fds[1], document, document_len, 0) == (ssize_t)document_len);
    read_document(&d);
    handoff_observe(&d);
    state_read_free(&d);
}

ssize_t handoff_link_send(int fd, const struct msghdr *message)
{
    if (goes_wrong("send")) {
        errno = ETOOMANYREFS;
        return -1;
    }
    ssize_t result = sim_link_send(fd, message);
    if (result >= 0 && kind_of(message) == HANDOFF_BEGIN)
        observe_round(message);
    end_sent |= result >= 0 && kind_of(message) == HANDOFF_END;
    return result;
}

ssize_t handoff_link_receive(int fd, struct msghdr *message)
{
    bool wrong = sim_descriptor_readable(fd) && goes_wrong("receive");
    ssize_t result = sim_link_receive(fd, message);

    if (wrong && result > 0)
        message->msg_flags |= MSG_CTRUNC;
    return result;
}

struct waited {
    int fd;
};

static bool readable(void *context)
{
    return sim_descriptor_readable(((struct waited *)context)->fd);
}

static bool writable(void *context)
{
    (void)context;
    return true;
}

int handoff_wait(int fd, short events, int timeout_ms)
{
    struct waited waited = {fd};
    if (!sim_in_thread()) /* a worker passes something on, and there is room at once */
        return 1;
    uint64_t until_us = timeout_ms < 0 ? 0 : sim_now_us() + 1000ull * (unsigned)timeout_ms;

    return sim_wait(events & POLLIN ? readable : writable, &waited, until_us) ? 1 : 0;
}

/* --- processes --- */

pid_t process_self(void)
{
    return (pid_t)sim_pid();
}

pid_t process_parent(void)
{
    return (pid_t)parents[sim_process];
}

int process_watch(pid_t pid)
{
    return sim_watch((uint32_t)pid);
}

bool process_ended(int watch_fd, int timeout_ms)
{
    return timeout_ms == 0 ? sim_descriptor_readable(watch_fd)
                           : handoff_wait(watch_fd, POLLIN, timeout_ms) > 0;
}

void process_kill(pid_t pid)
{
    die((uint32_t)pid);
}

/* --- actors/upgrade_spawn.c --- */

void upgrade_know(char **argv, const char *config_path, bool daemonized)
{
    (void)argv;
    (void)config_path;
    (void)daemonized;
}

void upgrade_reserve(void) {}

void upgrade_reserve_use(void) {}

int upgrade_validate(struct failure *why)
{
    handoff_pause((unsigned)sim_below(100000));
    return sim_chance(20) ? fail(why, "the new configuration is refused") : 0;
}

static void run_successor(void *context)
{
    int listener = *(int *)context;

    free(context);
    successor_main(listener);
}

static void crash_some_time(void *context)
{
    bool second = sim_chance(500);

    (void)context;
    if (sim_alive(predecessor) && sim_alive(successor))
        die(second ? successor : predecessor);
}

int upgrade_spawn(struct upgrade_child *child, int listener_fd, struct failure *why)
{
    int *listener = malloc(sizeof *listener);
    int ends[2];

    (void)why;
    INVARIANT(listener != NULL);
    sim_link_pair(ends);
    int fds[] = {listener_fd, ends[1]};
    int given[2];
    unsigned slot = 0;
    predecessor = sim_pid();
    successor = sim_spawn(run_successor, listener, fds, given, 2, &slot);
    *listener = given[0];
    inherited[slot] = given[1];
    parents[slot] = predecessor;
    serves[slot] = false;
    late_until_us[slot] = 0;
    io_close(ends[1]);
    if (page != NULL)
        munmap((void *)(uintptr_t)page, sizeof *page);
    page = NULL;
    spawned_us = sim_now_us();
    draw_fault();
    if (fault.what == NO_TROUBLE && sim_chance(upheaval.fault_pm / 4))
        sim_at(sim_now_us() + sim_below(sim_chance(500) ? 20000 : 500000), crash_some_time, NULL);
    *child = (struct upgrade_child){.pid = (pid_t)successor,
                                    .watch = sim_watch(successor),
                                    .link = ends[0],
                                    .ready_fd = -1,
                                    .migration = -1};
    return 0;
}

int upgrade_child_said_nothing(const struct upgrade_child *child, struct failure *why)
{
    (void)child;
    return fail(why, "New process exited before readiness");
}

void upgrade_child_close(struct upgrade_child *child)
{
    if (child->watch >= 0)
        io_close(child->watch);
    if (child->link >= 0)
        io_close(child->link);
    child->watch = -1;
    child->link = -1;
}

void upgrade_kill(struct upgrade_child *child)
{
    if (child->pid > 0)
        process_kill(child->pid);
    child->pid = -1;
    upgrade_child_close(child);
}

bool upgrade_child_ready(struct upgrade_child *child)
{
    (void)child;
    return false;
}

int upgrade_child_status(struct upgrade_child *child)
{
    child->pid = -1;
    return -1;
}

bool upgrade_child_crashed(struct upgrade_child *child)
{
    if (child->pid <= 0 || !process_ended(child->watch, 1000))
        return false;
    child->pid = -1;
    return true;
}

/* --- the run --- */

static void upgrade_now(void *context)
{
    (void)context;
    if (clients_done())
        return;
    if (!processes_operate() ||
        (predecessor != 0 && sim_alive(predecessor) && sim_alive(successor))) {
        sim_at(sim_now_us() + 100000, upgrade_now, NULL);
        return;
    }
    upgrades++;
    sim_note("upgrade %u", upgrades);
    upgrade_start(NULL, "the simulation");
    if (sim_chance(upheaval.again_pm))
        sim_at(sim_now_us() + sim_below(sim_chance(500) ? 50000 : 3000000), upgrade_now, NULL);
}

void processes_begin(void (*run)(int listener))
{
    successor_main = run;
    sim_at(sim_now_us() + sim_below(sim_chance(500) ? 50000 : 1000000), upgrade_now, NULL);
}

void processes_serves(void)
{
    serves[sim_process] = true;
}

static bool lives(unsigned process)
{
    return sim_pid_of(process) != 0;
}

bool processes_none(void)
{
    return !lives(0) && !lives(1);
}

bool processes_settled(void)
{
    unsigned which = lives(0) ? 0 : 1;

    if (processes_none())
        return true;
    if ((lives(0) && lives(1)) || !serves[which] || sim_threads() > 0)
        return false;
    sim_enter(which);
    return true;
}

static bool operable(unsigned process)
{
    return lives(process) && serves[process] && !sim_process_stands(process);
}

bool processes_operate(void)
{
    unsigned which = lives(0) ? 0 : 1;

    if (lives(0) && lives(1))
        which = (unsigned)sim_below(PROGRAMS);
    if (!operable(which))
        which ^= 1;
    if (!operable(which))
        return false;
    sim_enter(which);
    return true;
}
