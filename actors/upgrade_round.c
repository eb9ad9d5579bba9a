/* One round: the world stops, everything that can move is written down and sent, the successor
 * says that it can go on with it, and one word makes it the successor's. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_internal.h"

#include "runtime/freeze.h"
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    STOP_US = 250000,
    STOP_ATTEMPTS = 8,
    ADOPT_MS = 2000,
    FDS_WINDOW = 2,    /* packets with descriptors that the successor has not confirmed */
    SPARE_FDS = 64,    /* of the successor's, besides what it is given */
    HOLD_ATTEMPTS = 5, /* to take a send back */
};

/* How long the parts of a freeze took, for the log. */
enum lap { LAP_HELD, LAP_CHOSEN, LAP_WRITTEN, LAP_SENT, LAP_PREPARED, LAP_ADOPTED, LAP_COUNT };

static uint32_t backends_told; /* that stay, as the successor knows it */

struct round {
    uint64_t laps_us[LAP_COUNT]; /* clock at the end of each */
    const struct upgrade_child *child;
    struct upgrade_load load;
    struct state_writer document;
    struct commit_page *page;
    int page_fd;
    int document_fd;
    uint64_t deadline_us;
    uint64_t guard_us;
};

/* --- stopping and going on --- */

static void hold_receives(struct worker *w, void *context)
{
    struct upgrade_load *load = context;

    conn_hold(w, load->conns, load->conn_count, false);
}

static void hold_sends(struct worker *w, void *context)
{
    struct upgrade_load *load = context;

    conn_hold(w, load->conns, load->conn_count, true);
}

static void resume(struct worker *w, void *context)
{
    struct upgrade_load *load = context;

    conn_resume(w, load->conns, load->conn_count);
}

static void lap(struct round *r, enum lap which)
{
    r->laps_us[which] = clock_us();
}

static bool sends_left(const struct upgrade_load *load)
{
    for (size_t i = 0; i < load->conn_count; i++) {
        const struct conn *c = load->conns[i];

        if ((c->flags & (CONN_SENDING | CONN_SENT_DUE)) == CONN_SENDING)
            return true;
    }
    return false;
}

int upgrade_stop(struct upgrade_load *load, enum upgrade_scope scope, struct failure *why)
{
    bool stopped = false;

    /* On a machine that is very busy one may come late; meanwhile the others go on. */
    for (int i = 0; i < STOP_ATTEMPTS && !stopped; i++)
        stopped = freeze_begin(STOP_US);
    if (!stopped)
        return fail(why, "the workers did not come to rest in time");
    uint64_t frozen_us = clock_us();
    freeze_on(0, freeze_settle, NULL);
    upgrade_load_conns(load);
    load->scope = scope;
    load->frozen_us = frozen_us;
    freeze_each(hold_receives, load);
    for (int i = 0; i < HOLD_ATTEMPTS && sends_left(load); i++)
        freeze_each(hold_sends, load);
    load->held_us = clock_us();
    upgrade_load_choose(runtime_worker(0), load);
    return 0;
}

void upgrade_go_on(struct upgrade_load *load)
{
    freeze_each(resume, load);
    freeze_end();
}

/* --- sending --- */

static int left_ms(const struct round *r)
{
    uint64_t now_us = clock_us();

    return now_us >= r->deadline_us ? 0 : (int)((r->deadline_us - now_us) / 1000) + 1;
}

/* Waits for that kind. Others that may come meanwhile are dealt with. */
static int await(struct round *r, enum handoff_kind kind, uint64_t n[HANDOFF_NUMBERS],
                 struct failure *why)
{
    struct handoff_packet packet;

    for (;;) {
        switch (handoff_receive(r->child->link, &packet, left_ms(r), why)) {
        case HANDOFF_TIMEOUT: return fail(why, "the new process did not answer in time");
        case HANDOFF_GONE:
        case HANDOFF_BAD: return -1;
        case HANDOFF_GOT: break;
        }
        handoff_close_fds(&packet);
        if (packet.kind == HANDOFF_CANCEL)
            upgrade_cancel(&packet);
        else if (packet.kind == HANDOFF_ERROR)
            return fail(why, "the new process: %.*s", (int)packet.text.len,
                        (const char *)packet.text.at);
        else if (packet.kind == kind)
            break;
    }
    memcpy(n, packet.n, sizeof packet.n);
    return 0;
}

static int send_fds(struct round *r, struct failure *why)
{
    const struct upgrade_load *load = &r->load;
    uint64_t answer[HANDOFF_NUMBERS];
    uint64_t confirmed = 0;

    for (size_t at = 0; at < load->fd_count;) {
        size_t count = MIN(load->fd_count - at, (size_t)HANDOFF_FDS_MAX);
        uint64_t n[] = {at, count};

        if (handoff_send(r->child->link, HANDOFF_FDS, n, 2, (struct bytes){0}, load->fds + at,
                         (unsigned)count, why) != 0)
            return -1;
        at += count;
        /* Descriptors on their way count against a limit of the user's. */
        while (at - confirmed > (size_t)FDS_WINDOW * HANDOFF_FDS_MAX ||
               (at == load->fd_count && confirmed < at)) {
            if (await(r, HANDOFF_FDS_OK, answer, why) != 0)
                return -1;
            confirmed = answer[0];
        }
    }
    return 0;
}

static int write_document(struct round *r, uint64_t generation, uint64_t round, struct failure *why)
{
    struct state_header header = {
        .generation = generation, .round = round, .frozen_us = r->load.frozen_us};

    state_write_begin(&r->document);
    upgrade_load_write(&r->load, &r->document, &header);
    if (r->document.out.failed || handoff_refused("document") != 0)
        return fail(why, "there is no memory for the state");
    r->document_fd = memory_file("pg_doorman-state", r->document.out.start, r->document.out.len,
                                 why);
    return r->document_fd < 0 ? -1 : 0;
}

static int enough_descriptors(const struct round *r, struct failure *why)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || r->load.fd_count + SPARE_FDS <= limit.rlim_cur)
        return 0;
    return fail(why, "%zu descriptors are to be handed over, and a process may have %llu",
                r->load.fd_count, (unsigned long long)limit.rlim_cur);
}

/* Everything, up to the successor's word that it is prepared. */
static int ship(struct round *r, uint64_t generation, uint64_t round, struct failure *why)
{
    uint64_t answer[HANDOFF_NUMBERS];

    if (write_document(r, generation, round, why) != 0 || enough_descriptors(r, why) != 0)
        return -1;
    lap(r, LAP_WRITTEN);
    r->page = commit_page_new(&r->page_fd, why);
    if (r->page == NULL)
        return -1;
    int fds[] = {r->page_fd, r->document_fd};
    uint64_t begin[] = {round, r->document.out.len};
    uint64_t end[] = {r->load.fd_count};
    if (handoff_send(r->child->link, HANDOFF_BEGIN, begin, 2, (struct bytes){0}, fds, 2, why) != 0)
        return -1;
    upgrade_test_point("begin", r->child->pid);
    if (send_fds(r, why) != 0)
        return -1;
    lap(r, LAP_SENT);
    upgrade_test_point("fds", r->child->pid);
    if (handoff_send(r->child->link, HANDOFF_END, end, 1, (struct bytes){0}, NULL, 0, why) != 0)
        return -1;
    if (await(r, HANDOFF_PREPARED, answer, why) != 0)
        return -1;
    lap(r, LAP_PREPARED);
    upgrade_test_point("prepared", r->child->pid);
    if (process_ended(r->child->watch, 0))
        return fail(why, "the new process has ended");
    return 0;
}

/* --- deciding --- */

/* A packet, if one comes within a millisecond. True: the word that it serves. */
static bool says_committed(struct round *r)
{
    struct handoff_packet packet;
    struct failure ignored;

    if (handoff_receive(r->child->link, &packet, 1, &ignored) != HANDOFF_GOT) {
        handoff_pause(200);
        return false;
    }
    handoff_close_fds(&packet);
    if (packet.kind == HANDOFF_CANCEL)
        upgrade_cancel(&packet);
    if (packet.kind == HANDOFF_COMMITTED)
        r->load.served_us = packet.n[2];
    return packet.kind == HANDOFF_COMMITTED;
}

/* The sessions are the successor's for good; that it serves it says in a moment. Should it die
 * instead, this process still has the listeners, and they are not given up. */
static enum round_result await_service(struct round *r, bool serves, struct failure *why)
{
    uint64_t until_us = clock_us() + r->guard_us;

    while (!serves && clock_us() < until_us) {
        serves = says_committed(r);
        if (!serves && process_ended(r->child->watch, 0)) {
            fail(why, "the new process has died when it had just taken over");
            return ROUND_LOST;
        }
    }
    return ROUND_MOVED;
}

/* Only a wake-up, but nobody else gives it. */
static bool tell_committed(struct round *r)
{
    struct failure why;
    bool told = handoff_send(r->child->link, HANDOFF_COMMIT, NULL, 0, (struct bytes){0}, NULL, 0,
                             &why) == 0;

    if (!told)
        log_debug("upgrade: %s", why.text);
    return told;
}

/* The word says COMMITTED. It is the successor's, unless that dies before it begins. */
static enum round_result await_adoption(struct round *r, bool told, struct failure *why)
{
    uint64_t until_us = clock_us() + (uint64_t)ADOPT_MS * 1000;
    bool killed = false;
    bool serves = false;

    for (;;) {
        if (atomic_load(&r->page->word) == COMMIT_ADOPTED)
            return await_service(r, serves, why);
        if (process_ended(r->child->watch, 0)) {
            if (commit_go(r->page, COMMIT_COMMITTED, COMMIT_RECLAIMED)) {
                fail(why, "the new process has died before it went on with the sessions");
                return ROUND_RECLAIMED;
            }
            fail(why, "the new process has died");
            return ROUND_LOST;
        }
        if (clock_us() > until_us && !killed) {
            log_error("upgrade: the new process does not go on with the sessions: it is killed");
            process_kill(r->child->pid);
            killed = true;
        }
        serves |= says_committed(r);
        if (UNLIKELY(!told))
            told = tell_committed(r);
    }
}

static enum round_result decide(struct round *r, struct failure *why)
{
    if (!upgrade_spare_child()) {
        fail(why, "this process ends");
        return ROUND_FAILED;
    }
    if (!commit_go(r->page, COMMIT_PREPARED, COMMIT_COMMITTED)) {
        fail(why, "the new process is not prepared");
        return ROUND_FAILED;
    }
    bool told = tell_committed(r);
    upgrade_test_point("committed", r->child->pid);
    enum round_result result = await_adoption(r, told, why);
    upgrade_test_point("adopted", r->child->pid);
    lap(r, LAP_ADOPTED);
    return result;
}

/* --- what is told --- */

/* After each look at who can move, whether anybody could or not. */
void upgrade_count_left(struct upgrade_status *status, void *context)
{
    const struct upgrade_load *load = context;
    size_t len = 0;

    status->sessions_left = load->sessions_left;
    status->backends_left = load->backends_left;
    status->left_reasons[0] = '\0';
    for (unsigned reason = 1; reason < UPGRADE_REASON_COUNT; reason++) {
        if (load->left[reason] == 0 || len >= sizeof status->left_reasons)
            continue;
        len += (size_t)snprintf(status->left_reasons + len, sizeof status->left_reasons - len,
                                "%s%u %s", len > 0 ? "; " : "", load->left[reason],
                                upgrade_reason_text((enum upgrade_reason)reason));
    }
}

void upgrade_count_moved(struct upgrade_status *status, void *context)
{
    const struct upgrade_load *load = context;

    status->rounds++;
    status->sessions += load->session_count;
    status->in_transaction += load->in_transaction;
    status->waiters += load->waiters;
    status->backends += load->backend_count;
    /* As long as those wait that moved; the same as the successor tells. */
    uint64_t until_us = load->served_us > load->frozen_us ? load->served_us : clock_us();
    status->freeze_us = until_us - load->frozen_us;
    status->longest_freeze_us = MAX(status->longest_freeze_us, status->freeze_us);
}

static void say_laps(const struct round *r)
{
    static const char *const names[LAP_COUNT] = {"take back", "choose",         "write",
                                                 "send",      "read and check", "take over"};
    uint64_t from_us = r->load.frozen_us;
    char text[256];
    size_t len = 0;

    for (size_t i = 0; i < LAP_COUNT; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s %llu", i > 0 ? ", " : "",
                                names[i], (unsigned long long)(r->laps_us[i] - from_us));
        from_us = r->laps_us[i];
    }
    log_info("upgrade: frozen for %llu us: %s, forget %llu",
             (unsigned long long)(clock_us() - r->load.frozen_us), text,
             (unsigned long long)(clock_us() - from_us));
}

static void leave(struct worker *w, void *context)
{
    struct round *r = context;

    upgrade_load_leave(w, &r->load);
}

static void round_free(struct round *r)
{
    commit_page_unmap(r->page);
    if (r->page_fd >= 0)
        close(r->page_fd);
    if (r->document_fd >= 0)
        close(r->document_fd);
    state_write_free(&r->document);
    upgrade_load_free(&r->load);
}

/* Those whose client has gone need not move; in a drain those in transactions are not to. */
static bool incomplete(const struct round *r, struct failure *why)
{
    const struct upgrade_load *load = &r->load;
    uint32_t count = 0;

    for (unsigned reason = 1; reason < UPGRADE_LEFT_BACKEND_LOGIN; reason++) {
        bool expected = reason == UPGRADE_LEFT_ENDING || reason == UPGRADE_LEFT_ABANDONED ||
                        reason == UPGRADE_LEFT_TRANSACTION;

        if (load->left[reason] > 0 && !expected && count++ == 0)
            fail(why, "upgrade_incomplete: %u of the clients cannot move now: %s",
                 load->left[reason], upgrade_reason_text((enum upgrade_reason)reason));
    }
    return count > 0;
}

static enum round_result run(struct round *r, bool aborts, uint64_t generation, uint64_t round,
                             struct failure *why)
{
    /* The successor's pools are to know what is still on its way to them. */
    if (round > 1 && r->load.session_count == 0 && r->load.backend_count == 0 &&
        r->load.backends_left == backends_told)
        return ROUND_NOTHING;
    if (round == 1 && aborts && incomplete(r, why))
        return ROUND_INCOMPLETE;
    if (ship(r, generation, round, why) == 0) {
        enum round_result result = decide(r, why);

        if (result != ROUND_FAILED)
            return result;
    }
    /* Nobody else's any more, if the other still lives and looks. */
    if (r->page != NULL && !commit_go(r->page, COMMIT_OPEN, COMMIT_ABORTED))
        commit_go(r->page, COMMIT_PREPARED, COMMIT_ABORTED);
    return ROUND_FAILED;
}

enum round_result upgrade_round(const struct upgrade_child *child, const struct upgrade_plan *plan,
                                uint64_t generation, uint64_t round, struct failure *why)
{
    struct round r = {.child = child, .page_fd = -1, .document_fd = -1, .guard_us = plan->guard_us};

    if (upgrade_stop(&r.load, plan->drains ? UPGRADE_WITHOUT_BACKENDS : UPGRADE_EVERYTHING, why) !=
        0)
        return ROUND_FAILED;
    r.laps_us[LAP_HELD] = r.load.held_us;
    lap(&r, LAP_CHOSEN);
    r.deadline_us = r.load.frozen_us + plan->freeze_us;
    enum round_result result = run(&r, plan->aborts, generation, round, why);
    if (result == ROUND_MOVED || result == ROUND_LOST)
        freeze_on(0, leave, &r);
    if (result == ROUND_MOVED) {
        backends_told = r.load.backends_left;
        say_laps(&r);
        upgrade_status_change(upgrade_count_moved, &r.load);
    }
    if (result == ROUND_MOVED || result == ROUND_NOTHING)
        upgrade_status_change(upgrade_count_left, &r.load);
    upgrade_go_on(&r.load);
    round_free(&r);
    return result;
}
