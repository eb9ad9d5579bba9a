/* The lives of simulated clients: they come, ask, are answered, and go, in one way or another. */
#include "tests/simulation/client.h"

#include "actors/app.h"
#include "tests/simulation/processes.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_US = 60000000, ATTEMPTS_MAX = 2 };

struct plan plan;
struct client clients[CLIENTS_MAX];
static struct sim_end *listener;
static struct sim_end *local_listener;
static uint64_t trouble_us; /* when a server was last in trouble; 0: never */

/* --- wants --- */

struct want *client_want(struct client *c)
{
    INVARIANT(c->want_count < WANTS_MAX);
    struct want *want = &c->wants[(c->want_first + c->want_count++) % WANTS_MAX];

    *want = (struct want){.asked_us = sim_now_us()};
    return want;
}

struct want *client_oldest(struct client *c)
{
    return c->want_count == 0 ? NULL : &c->wants[c->want_first];
}

void clients_trouble(void)
{
    trouble_us = sim_now_us();
}

/* --- the end --- */

void client_end(struct client *c)
{
    if (c->phase == CLIENT_GONE)
        return;
    sim_note("client %u is gone", c->number);
    sim_far_close(&c->far);
    c->phase = CLIENT_GONE;
}

static void closed_on(struct client *c, bool reset)
{
    /* A server that died within a message leaves nothing to be said. */
    bool amid = c->in_len > 0 && clients_had_trouble();

    /* One that reads too slowly is given a second for the last words. */
    /* What a process had at its end another may close. */
    bool broken = sim_far_broken(&c->far) && (reset || processes_upgrades() > 0);

    if (c->want_count > 0 && !c->told && !c->leaving && !amid && !c->slow && !broken)
        sim_fail("client %u is left without an answer to %u requests, and without a word",
                 c->number, c->want_count);
    if (c->phase == CLIENT_LOGIN && !c->told && !sim_far_broken(&c->far) && !plan.draining)
        sim_fail("client %u is turned away without a word", c->number);
    client_end(c);
}

/* --- input --- */

static void read_now(struct client *c)
{
    uint8_t bytes[4096];
    struct frame f;
    ssize_t got;

    while (c->phase != CLIENT_GONE && (got = sim_far_read(&c->far, bytes, sizeof bytes)) != 0) {
        if (got < 0) {
            closed_on(c, got == -2);
            return;
        }
        if (c->in_len + (size_t)got > c->in_size) {
            c->in_size = MAX(c->in_size * 2, c->in_len + (size_t)got);
            c->in = realloc(c->in, c->in_size);
            INVARIANT(c->in != NULL);
        }
        memcpy(c->in + c->in_len, bytes, (size_t)got);
        c->in_len += (size_t)got;
        size_t used = 0;
        while (c->phase != CLIENT_GONE &&
               frame_peek(&f, c->in + used, c->in_len - used, FRAME_LIMIT) == FRAME_WHOLE) {
            client_answer(c, (char)f.type, f.body, f.body_len);
            used += FRAME_HEADER + f.body_len;
        }
        memmove(c->in, c->in + used, c->in_len - used);
        c->in_len -= used;
        if (c->slow && sim_chance(300))
            return; /* the rest when more comes, or later */
    }
}

static void read_late(void *context)
{
    struct client *c = context;

    c->reading = false;
    read_now(c);
    if (c->slow && c->phase != CLIENT_GONE && !c->reading) {
        c->reading = true;
        sim_at(sim_now_us() + 1000 + sim_below(20000), read_late, c);
    }
}

static void readable(struct sim_far *far)
{
    struct client *c = far->context;

    if (!c->slow) {
        read_now(c);
    } else if (!c->reading) {
        c->reading = true;
        sim_at(sim_now_us() + sim_below(20000), read_late, c);
    }
}

/* --- output --- */

void client_send(struct client *c)
{
    INVARIANT(!c->out.failed);
    sim_far_write(&c->far, c->out.at, c->out.len);
    c->out.len = 0;
}

/* In the middle of whatever is to be sent. */
static void vanish(struct client *c)
{
    size_t part = c->out.len == 0 ? 0 : sim_below(c->out.len + 1);

    sim_note("client %u vanishes behind %zu of %zu bytes", c->number, part, c->out.len);
    sim_far_write(&c->far, c->out.at, part);
    if (sim_chance(500))
        sim_far_reset(&c->far);
    client_end(c);
}

/* It does not wait for the answer; when that is there already, it stays. */
static void vanish_waiting(void *context)
{
    struct client *c = context;

    if (c->phase == CLIENT_HERE && c->want_count > 0)
        vanish(c);
}

/* --- cancel requests --- */

struct cancel {
    struct sim_far far;
};

static void cancel_readable(struct sim_far *far)
{
    uint8_t bytes[64];
    ssize_t got;

    while ((got = sim_far_read(far, bytes, sizeof bytes)) > 0)
        ;
    if (got < 0)
        sim_far_close(far);
}

static void send_cancel(void *context)
{
    struct client *c = context;
    struct cancel *cancel = calloc(1, sizeof *cancel);
    struct writer out;
    uint8_t key[32];
    bool wrong = sim_chance(200);

    INVARIANT(cancel != NULL);
    if (c->key_len == 0)
        return;
    cancel->far.readable = cancel_readable;
    if (!sim_far_connect(&cancel->far, listener, false))
        return;
    memcpy(key, c->key, c->key_len);
    if (wrong)
        key[0] ^= 1;
    else
        c->cancels++;
    sim_note("client %u sends a %s cancel request", c->number, wrong ? "wrong" : "right");
    writer_init(&out);
    write_cancel(&out, c->pid, key, c->key_len);
    sim_far_write(&cancel->far, out.at, out.len);
    writer_free(&out);
}

/* --- work --- */

static void go_on(void *context)
{
    struct client *c = context;

    if (c->phase != CLIENT_HERE || c->want_count > 0)
        return;
    if (c->left == 0 && (c->status == 'I' || sim_chance(300))) {
        c->leaving = true;
        if (sim_chance(800))
            write_terminate(&c->out);
        client_send(c);
        if (sim_chance(700))
            client_end(c);
        else
            sim_far_finish(&c->far);
        return;
    }
    client_compose(c);
    if (sim_chance(plan.abort_pm)) {
        vanish(c);
        return;
    }
    client_send(c);
    if (sim_chance(plan.leave_pm))
        sim_at(sim_now_us() + sim_below(sim_chance(500) ? 2000 : 50000), vanish_waiting, c);
    if (sim_chance(plan.cancel_pm))
        sim_at(sim_now_us() + sim_below(sim_chance(500) ? 2000 : 30000), send_cancel, c);
}

/* All is answered: after a while the next. */
void client_next(struct client *c)
{
    uint64_t think = plan.think_us == 0 ? 0 : sim_below(plan.think_us);

    if (sim_chance(10))
        think += sim_below(3000000);
    sim_at(sim_now_us() + think, go_on, c);
}

/* --- the beginning --- */

static void come(void *context)
{
    struct client *c = context;
    char name[16];
    char database[] = "db0";

    snprintf(name, sizeof name, "c%u", c->number);
    if (c->account == NULL)
        c->account = lookups_pick();
    if (c->account == NULL)
        c->account = &accounts[sim_below(plan.users)];
    if (c->account->role == ROLE_WRITTEN)
        c->expected = account_in_force(c->account);
    else if (c->identity.attempts == 0)
        identity_begin(&c->identity, c->account);
    else
        identity_repeat(&c->identity);
    c->late = atomic_load(&app.draining);
    bool asked = c->account->asked != PROOF_NONE;
    c->wrong = asked && sim_chance(plan.wrong_pm);
    c->silent = asked && sim_chance(plan.wrong_pm / 2);
    struct parameter list[] = {{bytes_of("user"), bytes_of(c->account->name)},
                               {bytes_of("database"), bytes_of(database)},
                               {bytes_of("application_name"), bytes_of(name)}};
    c->far.readable = readable;
    c->far.context = c;
    c->status = 'I';
    c->slow = sim_chance(100);
    c->far.window = c->slow ? 1000 + sim_below(8000) : 60000 + sim_below(100000);
    c->login_us = sim_now_us();
    writer_init(&c->out);
    bool local = sim_chance(300);
    if (!sim_far_connect(&c->far, local ? local_listener : listener, local)) {
        c->phase = CLIENT_GONE;
        return;
    }
    c->phase = CLIENT_LOGIN;
    write_startup(&c->out, PROTOCOL_3_0, list, COUNT_OF(list));
    if (sim_chance(plan.abort_pm / 2))
        vanish(c);
    else
        client_send(c);
}

void client_come_again(const struct client *before)
{
    if (plan.clients == CLIENTS_MAX || before->identity.attempts == ATTEMPTS_MAX)
        return;
    struct client *c = &clients[plan.clients++];
    *c = (struct client){.number = plan.clients,
                         .account = before->account,
                         .identity = before->identity,
                         .left = 1 + (unsigned)sim_below(plan.queries * 2u)};
    if (c->identity.attempts++ == 0)
        c->identity.refused_us = sim_now_us();
    sim_note("client %u will come again as %u", before->number, c->number);
    sim_at(sim_now_us() + lookups.min_interval_ms * 1000ull + sim_below(50000), come, c);
}

void clients_begin(int at, int local_at)
{
    listener = sim_end_of(at);
    local_listener = sim_end_of(local_at);
    INVARIANT(plan.clients <= CLIENTS_MAX);
    for (unsigned i = 0; i < plan.clients; i++) {
        clients[i].number = i + 1;
        clients[i].left = 1 + (unsigned)sim_below(plan.queries * 2u);
        uint64_t late_us = lookups.any ? 800000 : 200000;
        sim_at(sim_now_us() + sim_below(sim_chance(500) ? 1000 : late_us), come, &clients[i]);
    }
}

void clients_leave(const char *name)
{
    unsigned number = name[0] == 'c' ? (unsigned)strtoul(name + 1, NULL, 10) : 0;

    if (number > 0 && number <= plan.clients)
        sim_at(sim_now_us(), vanish_waiting, &clients[number - 1]);
}

bool clients_done(void)
{
    for (unsigned i = 0; i < plan.clients; i++) {
        if (clients[i].phase != CLIENT_GONE)
            return false;
    }
    return true;
}

void clients_check(void)
{
    for (unsigned i = 0; i < plan.clients; i++) {
        struct client *c = &clients[i];
        const struct want *want = client_oldest(c);

        if (c->phase == CLIENT_GONE)
            continue;
        if (want != NULL && sim_now_us() > want->asked_us + PATIENCE_US * (c->slow ? 10 : 1))
            sim_fail("client %u waits for its query %u since %llu us", c->number,
                     want->executes[0].query, (unsigned long long)want->asked_us);
        if (c->phase == CLIENT_LOGIN && sim_now_us() > c->login_us + PATIENCE_US)
            sim_fail("client %u waits to be let in", c->number);
    }
}

/* --- what the servers know --- */

void clients_executed(unsigned client, unsigned query)
{
    INVARIANT(client > 0 && client <= plan.clients && query < QUERIES_MAX);
    if (clients[client - 1].executed[query]++ > 0)
        sim_fail("query %u of client %u is run for the second time", query, client);
}

void clients_cancelled(unsigned client, unsigned query)
{
    INVARIANT(client <= plan.clients);
    /* What runs for one that has gone, the pooler ends by itself. */
    if (client > 0 && clients[client - 1].cancels == 0 && clients[client - 1].phase != CLIENT_GONE)
        sim_fail("query %u of client %u is cancelled, which did not ask for it", query, client);
}

bool clients_has_cancelled(unsigned client)
{
    return client > 0 && client <= plan.clients && clients[client - 1].cancels > 0;
}

bool clients_had_trouble(void)
{
    return trouble_us != 0;
}
