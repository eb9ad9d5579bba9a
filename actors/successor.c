/* The side that takes over: a thread that receives rounds, and makes them this process's. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_build.h"
#include "actors/upgrade_internal.h"

#include "actors/version.h"
#include "runtime/freeze.h"
#include "runtime/log.h"
#include "runtime/notify.h"
#include "runtime/world.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    GREET_MS = 10000,
    LAST_MS = 1000,
    STOP_US = 1000000,
    /* So long the service manager waits for the predecessor's end: then the reload is over. */
    ANNOUNCE_US = 5000000,
};

/* A round that arrives. */
struct arrival {
    uint64_t round;
    struct commit_page *page;
    uint8_t *document;
    size_t document_len;
    int *fds;
    size_t fd_count;
    size_t fd_size;
    struct state_document state;
    bool complete; /* all of it is here and makes sense */
};

static _Atomic int link_fd = -1;
/* Held by who closes it, and by other threads that send on it: its number may soon be another's. */
static pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;
static int watch_fd = -1; /* the end of the predecessor */
static void (*took_over)(void);
static bool took_over_told;
static _Atomic bool busy;
static uint64_t announce_us; /* at the latest; 0: not to be told yet */
/* Held by who needs workers, and actors that can be told something. */
static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;
static bool workers_ended;

/* True: there are workers, and will be until they are let go of. */
static bool workers_keep(void)
{
    pthread_mutex_lock(&workers_lock);
    if (!workers_ended)
        return true;
    pthread_mutex_unlock(&workers_lock);
    return false;
}

static void workers_let_go(void)
{
    pthread_mutex_unlock(&workers_lock);
}

bool successor_wanted(void)
{
    if (atomic_load(&link_fd) < 0)
        atomic_store(&link_fd, handoff_link_inherited());
    return atomic_load(&link_fd) >= 0;
}

int successor_link(void)
{
    return atomic_load(&link_fd);
}

bool successor_busy(void)
{
    return atomic_load(&busy);
}

/* --- the beginning --- */

static void note_beginning(struct upgrade_status *status, void *context)
{
    const struct handoff_packet *ack = context;

    status->generation = ack->n[2];
    status->predecessor = (pid_t)ack->n[3];
    snprintf(status->phase, sizeof status->phase, "waiting");
}

/* -1: it does not answer as it should; or has gone, which the caller has to find out. */
static int expect(struct handoff_packet *packet, enum handoff_kind kind, struct failure *why)
{
    switch (handoff_receive(link_fd, packet, GREET_MS, why)) {
    case HANDOFF_TIMEOUT: return fail(why, "the old process does not answer");
    case HANDOFF_GONE:
    case HANDOFF_BAD: return -1;
    case HANDOFF_GOT: break;
    }
    if (packet->kind == kind)
        return 0;
    handoff_close_fds(packet);
    return fail(why, "the old process sends packet %d where %d is due", (int)packet->kind,
                (int)kind);
}

static int exchange(int *local_fd, struct failure *why)
{
    struct rlimit limit = {0};
    struct handoff_packet packet;

    getrlimit(RLIMIT_NOFILE, &limit);
    upgrade_test_point("s-hello", process_parent());
    uint64_t hello[] = {HANDOFF_PROTOCOL, STATE_MAJOR, (uint64_t)process_self(), limit.rlim_cur};
    if (handoff_send(link_fd, HANDOFF_HELLO, hello, COUNT_OF(hello), bytes_of(DOORMAN_VERSION),
                     NULL, 0, why) != 0 ||
        expect(&packet, HANDOFF_HELLO_ACK, why) != 0)
        return -1;
    handoff_close_fds(&packet);
    if (packet.text.len == STATEMENT_KEY_BYTES)
        statement_hash_key_set(packet.text.at);
    upgrade_status_change(note_beginning, &packet);
    if (expect(&packet, HANDOFF_LISTENERS, why) != 0)
        return -1;
    upgrade_test_point("s-greeted", process_parent());
    for (unsigned i = 0; i < packet.fd_count; i++) {
        /* The TCP one was inherited. */
        if (i < HANDOFF_NUMBERS - 1 && packet.n[1 + i] == 1 && *local_fd < 0)
            *local_fd = packet.fds[i];
        else
            io_close(packet.fds[i]);
    }
    return 0;
}

static void forget_link(void)
{
    pthread_mutex_lock(&link_lock);
    io_close(atomic_exchange(&link_fd, -1));
    pthread_mutex_unlock(&link_lock);
    if (watch_fd >= 0)
        io_close(watch_fd);
    watch_fd = -1;
}

enum greeting successor_greet(int *local_fd, struct failure *why)
{
    *local_fd = -1;
    watch_fd = process_watch(process_parent());
    bool gone = watch_fd < 0 && errno == ESRCH;
    if (watch_fd < 0 && !gone) {
        fail(why, "cannot watch the old process: %s", strerror(errno));
        return GREETING_FAILED;
    }
    if (!gone && exchange(local_fd, why) != 0) {
        /* One that is about to end us closes its side as well, right after that. */
        if (!process_ended(watch_fd, 1000))
            return GREETING_FAILED;
        gone = true;
    }
    if (gone) {
        forget_link();
        return GREETED_NOBODY;
    }
    atomic_store(&app.handing_over, true);
    atomic_store(&busy, true);
    return GREETED;
}

/* --- arrivals --- */

static void arrival_free(struct arrival *a, bool close_fds)
{
    for (size_t i = 0; close_fds && i < a->fd_count; i++)
        io_close(a->fds[i]);
    free(a->fds);
    state_read_free(&a->state);
    if (a->document != NULL)
        munmap(a->document, a->document_len);
    commit_page_unmap(a->page);
    *a = (struct arrival){0};
}

static int on_begin(struct arrival *a, struct handoff_packet *packet, struct failure *why)
{
    int result = -1;

    arrival_free(a, true);
    if (upgrade_test_point("s-begin", process_parent())) {
        fail(why, "refused at the beginning, as asked");
        goto close_fds;
    }
    if (packet->fd_count != 2) {
        fail(why, "a round came without its descriptors");
        goto close_fds;
    }
    a->round = packet->n[0];
    a->document_len = (size_t)packet->n[1];
    a->page = commit_page_map(packet->fds[0], why);
    if (a->page == NULL)
        goto close_fds;
    int error = handoff_refused("map-document");
    void *at = MAP_FAILED;
    if (error == 0)
        at = mmap(NULL, a->document_len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, packet->fds[1], 0);
    else
        errno = error;
    if (at == MAP_FAILED) {
        fail(why, "cannot map the state: %s", strerror(errno));
        goto close_fds;
    }
    madvise(at, a->document_len, MADV_DONTDUMP);
    a->document = at;
    result = 0;

close_fds:
    handoff_close_fds(packet);
    return result;
}

static int on_fds(struct arrival *a, struct handoff_packet *packet, struct failure *why)
{
    if (a->page == NULL || packet->n[0] != a->fd_count || packet->n[1] != packet->fd_count) {
        handoff_close_fds(packet);
        return fail(why, "descriptors came in disorder");
    }
    if (upgrade_test_point("s-fds", process_parent())) {
        handoff_close_fds(packet);
        return fail(why, "refused with the descriptors, as asked");
    }
    if (a->fd_count + packet->fd_count > a->fd_size) {
        a->fd_size = MAX(a->fd_size * 2, a->fd_count + 4096);
        a->fds = realloc(a->fds, a->fd_size * sizeof *a->fds);
        INVARIANT(a->fds != NULL);
    }
    memcpy(a->fds + a->fd_count, packet->fds, packet->fd_count * sizeof *a->fds);
    a->fd_count += packet->fd_count;
    uint64_t have[] = {a->fd_count};
    return handoff_send(link_fd, HANDOFF_FDS_OK, have, 1, (struct bytes){0}, NULL, 0, why);
}

static int on_end(struct arrival *a, const struct handoff_packet *packet, struct failure *why)
{
    if (a->page == NULL || packet->n[0] != a->fd_count)
        return fail(why, "descriptors are missing");
    if (upgrade_test_point("s-end", process_parent()))
        return fail(why, "refused at the end, as asked");
    if (state_read(&a->state, a->document, a->document_len, why) != 0)
        return -1;
    if (a->state.header.fds != a->fd_count)
        return fail(why, "the state names other descriptors than came");
    if (upgrade_build_check(&a->state, why) != 0)
        return -1;
    a->complete = true;
    uint64_t counts[] = {a->state.session_count, a->state.backend_count};
    if (!commit_go(a->page, COMMIT_OPEN, COMMIT_PREPARED))
        return fail(why, "the old process has given up");
    if (upgrade_test_point("s-prepared", process_parent()))
        return fail(why, "refused when prepared, as asked");
    /* If nobody is there to hear it, all of it is ours: survive() follows. */
    struct failure ignored;
    if (handoff_send(link_fd, HANDOFF_PREPARED, counts, 2, (struct bytes){0}, NULL, 0, &ignored) !=
        0)
        log_debug("upgrade: %s", ignored.text);
    return 0;
}

/* --- taking over --- */

static void tell_took_over(void)
{
    if (took_over_told)
        return;
    took_over_told = true;
    announce_us = clock_us() + ANNOUNCE_US;
    took_over();
}

void successor_announce(bool unnamed)
{
    struct failure why;

    announce_us = 0;
    if (unnamed && notify_main_pid(process_self(), &why) != 0)
        log_warn("sd_notify MAINPID failed: %s", why.text);
    if (notify_serving("serving", &why) != 0)
        log_error("sd_notify READY failed: %s", why.text);
}

/* What is left for receiving the next packet; -1: as long as it takes. */
static int patience_ms(void)
{
    uint64_t now_us = clock_us();

    if (announce_us == 0)
        return -1;
    return now_us >= announce_us ? 0 : (int)((announce_us - now_us) / 1000) + 1;
}

struct adoption {
    struct arrival *arrival;
    struct upgrade_built built;
    uint64_t served_us; /* the clock when it was done */
};

static void adopt_here(struct worker *w, void *context)
{
    struct adoption *adoption = context;

    upgrade_build(w, &adoption->arrival->state, adoption->arrival->fds, &adoption->built);
}

static void note_adoption(struct upgrade_status *status, void *context)
{
    const struct adoption *adoption = context;
    uint64_t since_us = adoption->arrival->state.header.frozen_us;

    status->rounds++;
    status->sessions += adoption->built.sessions;
    status->in_transaction += adoption->built.in_transaction;
    status->waiters += adoption->built.waiters;
    status->backends += adoption->built.backends;
    status->freeze_us = adoption->served_us - since_us;
    status->longest_freeze_us = MAX(status->longest_freeze_us, status->freeze_us);
    snprintf(status->phase, sizeof status->phase, "taking over");
    snprintf(status->result, sizeof status->result, "running");
}

/* The word has made it ours. From here on nothing can fail but the whole process. */
static int adopt_all(struct arrival *a, struct failure *why)
{
    struct adoption adoption = {.arrival = a};

    upgrade_test_point("s-commit", process_parent());
    if (!freeze_begin(STOP_US))
        return fail(why, "the workers did not come to rest in time");
    if (!commit_go(a->page, COMMIT_COMMITTED, COMMIT_ADOPTED)) {
        freeze_end();
        return fail(why, "the old process has taken the sessions back");
    }
    upgrade_test_point("s-adopted", process_parent());
    freeze_on(0, freeze_settle, NULL);
    freeze_on(0, adopt_here, &adoption);
    freeze_end();
    uint64_t now_us = adoption.served_us = clock_us();
    upgrade_status_change(note_adoption, &adoption);
    tell_took_over();
    upgrade_test_point("s-serving", process_parent());
    uint64_t counts[] = {adoption.built.sessions, adoption.built.without_pool, now_us};
    struct failure ignored;
    if (handoff_send(link_fd, HANDOFF_COMMITTED, counts, 3, (struct bytes){0}, NULL, 0, &ignored) !=
        0)
        log_debug("upgrade: %s", ignored.text);
    log_info("upgrade: took over %u clients (%u in transactions, %u waiting) and %u server "
             "connections, %" PRIu64 " us after the old process stopped",
             adoption.built.sessions, adoption.built.in_transaction, adoption.built.waiters,
             adoption.built.backends, now_us - MIN(a->state.header.frozen_us, now_us));
    arrival_free(a, false);
    return 0;
}

static int adopt(struct arrival *a, struct failure *why)
{
    if (!workers_keep())
        return fail(why, "this process ends");
    int result = adopt_all(a, why);
    workers_let_go();
    return result;
}

static void note_left(struct upgrade_status *status, void *context)
{
    const struct handoff_packet *left = context;

    status->sessions_left = left->n[0];
    status->backends_left = left->n[1];
    snprintf(status->left_reasons, sizeof status->left_reasons, "%.*s", (int)left->text.len,
             (const char *)left->text.at);
}

/* --- ending --- */

static void note_end(struct upgrade_status *status, void *context)
{
    const struct handoff_packet *bye = context;

    snprintf(status->phase, sizeof status->phase, "serving");
    snprintf(status->result, sizeof status->result, bye == NULL ? "adopted" : "ok");
    if (bye == NULL)
        return;
    status->rounds = bye->n[5];
    status->total_us = bye->n[6];
    status->sessions_left = bye->n[7];
    snprintf(status->left_reasons, sizeof status->left_reasons, "%.*s", (int)bye->text.len,
             (const char *)bye->text.at);
}

/* Those as well that were removed meanwhile, and are in no directory any more. */
static void tell_alone(void)
{
    size_t count = 0;
    actor_id *pools = actor_list(&pool_type, &count);

    for (size_t i = 0; i < count; i++)
        actor_tell_kind(NULL, pools[i], MSG_POOL_ALONE);
    free(pools);
}

/* What the other process still had of server connections stood for permits here, until it ends. One
 * that stays as the first of a container has closed them as well. */
static void tell_pools(int predecessor)
{
    if (!process_ended(predecessor, LAST_MS))
        log_debug("upgrade: the old process stays");
    io_close(predecessor);
    if (workers_keep()) {
        tell_alone();
        workers_let_go();
    }
}

/* The predecessor has gone, at whatever moment. What the word left to us is ours. */
static void survive(struct arrival *a)
{
    struct failure why;

    /* Its link may close a moment before it has ended as a whole. */
    while (!process_ended(watch_fd, 1000))
        log_warn("upgrade: the old process has closed its side and does not end");
    if (a->complete && !commit_go(a->page, COMMIT_OPEN, COMMIT_COMMITTED))
        commit_go(a->page, COMMIT_PREPARED, COMMIT_COMMITTED);
    if (a->complete && adopt(a, &why) != 0)
        log_error("upgrade: %s", why.text);
    arrival_free(a, true);
    if (!took_over_told)
        log_warn("upgrade: the old process has died, this one serves");
    if (workers_keep()) {
        tell_took_over();
        workers_let_go();
    }
    upgrade_status_change(note_end, NULL);
}

static void finish(const struct handoff_packet *bye)
{
    upgrade_status_change(note_end, (void *)(uintptr_t)bye);
    log_info("upgrade: the old process has ended, %" PRIu64 " clients were left behind", bye->n[7]);
}

/* 0: go on. 1: it is over. -1: with the reason. */
static int handle(struct arrival *a, struct handoff_packet *packet, struct failure *why)
{
    switch (packet->kind) {
    case HANDOFF_BEGIN: return on_begin(a, packet, why);
    case HANDOFF_FDS: return on_fds(a, packet, why);
    case HANDOFF_END: return on_end(a, packet, why);
    case HANDOFF_COMMIT: return a->complete ? adopt(a, why) : 0;
    case HANDOFF_CANCEL:
        if (workers_keep()) {
            upgrade_cancel(packet);
            workers_let_go();
        }
        break;
    case HANDOFF_LEFT: upgrade_status_change(note_left, packet); break;
    case HANDOFF_BYE: finish(packet); return 1;
    case HANDOFF_ERROR:
        return fail(why, "the old process: %.*s", (int)packet->text.len,
                    (const char *)packet->text.at);
    default: break;
    }
    handoff_close_fds(packet);
    return 0;
}

/* Our refusal. The old process then ends us, or goes on without the round. */
static void refuse(struct arrival *a, const char *reason)
{
    struct failure ignored;

    log_error("upgrade: %s", reason);
    arrival_free(a, true);
    if (handoff_send(link_fd, HANDOFF_ERROR, NULL, 0, bytes_of(reason), NULL, 0, &ignored) != 0)
        log_error("upgrade: %s", ignored.text);
}

static void *run(void *argument)
{
    struct arrival arrival = {0};
    struct handoff_packet *packet = malloc(sizeof *packet);
    struct failure why = {0};
    int result = 0;
    bool died = false;

    (void)argument;
    INVARIANT(packet != NULL);
    upgrade_test_point("s-ready", process_parent());
    if (handoff_send(link_fd, HANDOFF_READY, NULL, 0, (struct bytes){0}, NULL, 0, &why) != 0)
        log_error("upgrade: %s", why.text);
    while (result != 1) {
        enum handoff_got got = handoff_receive(link_fd, packet, patience_ms(), &why);

        if (got == HANDOFF_TIMEOUT) {
            successor_announce(false);
            continue;
        }
        result = got == HANDOFF_GOT ? handle(&arrival, packet, &why) : -1;
        died = got == HANDOFF_GONE;
        if (died) {
            survive(&arrival);
            break;
        }
        if (result < 0)
            refuse(&arrival, why.text);
    }
    arrival_free(&arrival, true);
    free(packet);
    int predecessor = watch_fd;
    watch_fd = -1;
    forget_link();
    atomic_store(&busy, false);
    successor_announce(died); /* whoever has waited for it may ask for the next one */
    tell_pools(predecessor);
    return NULL;
}

int successor_start(void (*when_taken_over)(void), struct failure *why)
{
    took_over = when_taken_over;
    int error = handoff_thread_begin(NULL, "upgrade-pg-door", run);
    return error == 0 ? 0
                      : fail(why, "cannot start the thread of the upgrade: %s", strerror(error));
}

void successor_finish(void)
{
    pthread_mutex_lock(&workers_lock);
    workers_ended = true;
    pthread_mutex_unlock(&workers_lock);
}

void successor_forward_cancel(uint32_t number, struct bytes secret)
{
    uint64_t n[] = {number};
    struct failure why;

    pthread_mutex_lock(&link_lock);
    int fd = atomic_load(&link_fd);
    if (fd >= 0 && handoff_send(fd, HANDOFF_CANCEL, n, 1, secret, NULL, 0, &why) != 0)
        log_warn("a cancel request could not be passed on: %s", why.text);
    pthread_mutex_unlock(&link_lock);
}
