/* Connections of the simulated servers: messages, the extended protocol. */
#include "tests/simulation/postgres.h"

#include "tests/simulation/clients.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

struct pg_server pg_server;

/* --- output --- */

static void break_off(void *context)
{
    struct pg_conn *c = context;

    if (c->phase == PG_ENDED)
        return;
    if (sim_chance(500))
        sim_far_reset(&c->far);
    else
        sim_far_close(&c->far);
    pg_end(c);
}

/* Its process dies, or its machine: some of what it wrote arrives. */
static void die_amid(struct pg_conn *c)
{
    size_t part = sim_below(c->out.len + 1);

    sim_note("server %u dies behind %zu of %zu bytes", c->pid, part, c->out.len);
    clients_trouble();
    c->breaking = true;
    sim_far_write(&c->far, c->out.at, part);
    sim_at(sim_now_us() + sim_below(2000), break_off, c);
}

void pg_flush(struct pg_conn *c)
{
    if (c->out.len > 0 && !c->breaking) {
        if (sim_chance(plan.faults_pm) && sim_chance(plan.die_pm))
            die_amid(c);
        else
            sim_far_write(&c->far, c->out.at, c->out.len);
    }
    c->out.len = 0;
}

void pg_error(struct pg_conn *c, const char *sqlstate, const char *text)
{
    write_error(&c->out, "ERROR", sqlstate, text);
    if (c->status == 'T')
        c->status = 'E';
    if (c->status == 'I')
        c->now = c->before; /* the implicit transaction */
    c->copy_in = false;
    c->erred = true;
    pg_flush(c); /* PostgreSQL does not wait with an error */
}

void pg_ready(struct pg_conn *c)
{
    if (c->status == 'I')
        c->tx_owner = 0;
    write_ready_for_query(&c->out, c->status);
    c->phase = PG_READY;
    pg_flush(c);
}

void pg_end(struct pg_conn *c)
{
    struct pg_conn **at = &pg_server.conns;

    if (c->phase == PG_ENDED)
        return;
    c->phase = PG_ENDED;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

void pg_fatal(struct pg_conn *c, const char *sqlstate, const char *text)
{
    write_error(&c->out, "FATAL", sqlstate, text);
    pg_flush(c);
    sim_far_close(&c->far);
    pg_end(c);
}

/* --- messages --- */

static struct pg_prepared *prepared_find(struct pg_conn *c, const char *name)
{
    for (size_t i = 0; i < PREPARED_MAX; i++) {
        if (c->prepared[i].text[0] != '\0' && strcmp(c->prepared[i].name, name) == 0)
            return &c->prepared[i];
    }
    return NULL;
}

static struct pg_prepared *prepared_room(struct pg_conn *c)
{
    for (size_t i = 0; i < PREPARED_MAX; i++) {
        if (c->prepared[i].text[0] == '\0')
            return &c->prepared[i];
    }
    sim_fail("server %u holds %d prepared statements", c->pid, PREPARED_MAX);
}

static void failed(struct pg_conn *c, const char *sqlstate, const char *text)
{
    pg_error(c, sqlstate, text);
    c->skipping = true;
}

static void empty_message(struct pg_conn *c, char type)
{
    writer_begin(&c->out, type);
    writer_end(&c->out);
}

static void on_parse(struct pg_conn *c, const uint8_t *body, size_t len)
{
    struct cursor in = cursor_of(body, len);
    struct bytes name = cursor_string(&in);
    struct bytes text = cursor_string(&in);
    struct pg_prepared *p = prepared_find(c, (const char *)name.at);
    struct pg_tag tag = pg_tag_of((const char *)text.at);

    if (tag.client != 0)
        pg_check_owner(c, tag.client);
    if (tag.client == 0 && bytes_equal(text, bytes_of("refused"))) {
        failed(c, "42601", "syntax error at or near \"refused\"");
        return;
    }
    if (p != NULL && name.len > 0) {
        failed(c, "42P05", "prepared statement already exists");
        return;
    }
    if (c->status == 'E' && !tag.fails) {
        failed(c, "25P02", "current transaction is aborted");
        return;
    }
    if (p == NULL)
        p = prepared_room(c);
    *p = (struct pg_prepared){0};
    snprintf(p->name, sizeof p->name, "%s", (const char *)name.at);
    snprintf(p->text, sizeof p->text, "%s", (const char *)text.at);
    empty_message(c, '1');
}

/* One text parameter: who asks. */
static void on_bind(struct pg_conn *c, const uint8_t *body, size_t len)
{
    struct cursor in = cursor_of(body, len);
    char value[128];

    cursor_string(&in);
    struct bytes name = cursor_string(&in);
    uint16_t formats = cursor_u16(&in);
    cursor_bytes(&in, formats * 2u);
    if (cursor_u16(&in) != 1)
        sim_fail("server %u: a Bind without its parameter", c->pid);
    struct bytes who = cursor_bytes(&in, cursor_u32(&in));
    snprintf(value, sizeof value, "/*%.*s*/", (int)who.len, (const char *)who.at);
    struct pg_tag tag = pg_tag_of(value);
    if (in.bad || tag.client == 0)
        sim_fail("server %u: a Bind of nobody: %s", c->pid, value);
    pg_check_owner(c, tag.client);
    struct pg_prepared *p = prepared_find(c, (const char *)name.at);
    if (p == NULL) {
        char text[128];

        snprintf(text, sizeof text, "prepared statement \"%s\" does not exist",
                 (const char *)name.at);
        failed(c, "26000", text);
        return;
    }
    if (c->status == 'E') {
        failed(c, "25P02", "current transaction is aborted");
        return;
    }
    snprintf(c->portal, sizeof c->portal, "%.180s %s", p->text, value);
    empty_message(c, '2');
}

static void describe_row(struct pg_conn *c)
{
    struct column_spec column = {"x", 25};

    write_row_description(&c->out, &column, 1);
}

static void on_describe(struct pg_conn *c, const uint8_t *body)
{
    if (body[0] == 'S') {
        if (prepared_find(c, (const char *)body + 1) == NULL) {
            failed(c, "26000", "prepared statement does not exist");
            return;
        }
        writer_begin(&c->out, 't');
        writer_u16(&c->out, 1);
        writer_u32(&c->out, 25);
        writer_end(&c->out);
    } else if (c->portal[0] == '\0') {
        failed(c, "34000", "portal does not exist");
        return;
    }
    describe_row(c);
}

static void on_execute(struct pg_conn *c)
{
    char text[sizeof c->portal];
    struct pg_tag tag;

    if (c->portal[0] == '\0') {
        failed(c, "34000", "portal does not exist");
        return;
    }
    snprintf(text, sizeof text, "%s", c->portal);
    tag = pg_tag_of(text);
    (void)pg_execute(c, text, &tag, true);
}

static void on_close(struct pg_conn *c, const uint8_t *body)
{
    struct pg_prepared *p = body[0] == 'S' ? prepared_find(c, (const char *)body + 1) : NULL;

    if (p != NULL)
        *p = (struct pg_prepared){0};
    if (body[0] == 'P')
        c->portal[0] = '\0';
    empty_message(c, '3');
}

static void on_sync(struct pg_conn *c)
{
    c->skipping = false;
    c->portal[0] = '\0';
    if (c->status == 'I')
        pg_commit(c);
    c->implicit = false;
    pg_ready(c);
}

static void on_copy(struct pg_conn *c, char type)
{
    char tag[32];

    if (type == 'd') {
        c->copy_rows++;
        return;
    }
    c->copy_in = false;
    if (type == 'f') {
        pg_error(c, "57014", "COPY from stdin failed");
        c->skipping = c->copy_extended;
    } else {
        clients_executed(c->copy_tag.client, c->copy_tag.query);
        snprintf(tag, sizeof tag, "COPY %u", c->copy_rows);
        write_command_complete(&c->out, tag);
    }
    if (!c->copy_extended)
        pg_ready(c);
}

void pg_message(struct pg_conn *c, char type, const uint8_t *body, size_t len)
{
    if (type == 'X') {
        sim_far_close(&c->far);
        pg_end(c);
        return;
    }
    if (c->account->role == ROLE_QUERY) {
        pg_lookup(c, type, body, len);
        return;
    }
    if (c->copy_in) {
        if (type == 'd' || type == 'c' || type == 'f')
            on_copy(c, type);
        else if (type != 'S' && type != 'H')
            sim_fail("server %u: message %c within COPY", c->pid, type);
        return;
    }
    if (c->skipping && type != 'S')
        return;
    if (!c->implicit && c->status == 'I' && type != 'S' && type != 'Q') {
        c->before = c->now;
        c->implicit = true;
    }
    switch (type) {
    case 'Q': pg_run_query(c, (const char *)body, len - 1); break;
    case 'P': on_parse(c, body, len); break;
    case 'B': on_bind(c, body, len); break;
    case 'D': on_describe(c, body); break;
    case 'E': on_execute(c); break;
    case 'C': on_close(c, body); break;
    case 'S': on_sync(c); break;
    case 'H': pg_flush(c); break;
    case 'd':
    case 'c':
    case 'f': break; /* behind a COPY that failed */
    default: sim_fail("server %u: message of type %d", c->pid, type);
    }
}

/* --- input --- */

static void consume(struct pg_conn *c, size_t len)
{
    memmove(c->in, c->in + len, c->in_len - len);
    c->in_len -= len;
}

void pg_proceed(struct pg_conn *c)
{
    struct frame f;
    uint32_t code;

    while (c->phase == PG_STARTUP) {
        if (packet_peek(&f, &code, c->in, c->in_len, STARTUP_LIMIT) != FRAME_WHOLE)
            return;
        size_t len = 8 + f.body_len;
        pg_startup(c, code, &f);
        consume(c, len);
    }
    while (c->phase == PG_READY || c->phase == PG_PROVING) {
        switch (frame_peek(&f, c->in, c->in_len, FRAME_LIMIT)) {
        case FRAME_BROKEN: sim_fail("server %u: a broken message", c->pid);
        case FRAME_PARTIAL: return;
        case FRAME_WHOLE: break;
        }
        uint8_t *message = malloc(f.body_len + 1u);
        size_t len = f.body_len;
        char type = (char)f.type;
        INVARIANT(message != NULL);
        memcpy(message, f.body, len);
        message[len] = '\0';
        consume(c, FRAME_HEADER + len);
        if (c->phase == PG_PROVING)
            pg_proof(c, type, message, len);
        else
            pg_message(c, type, message, len);
        free(message);
    }
}

static void readable(struct sim_far *far)
{
    struct pg_conn *c = far->context;
    uint8_t bytes[8192];
    ssize_t got;

    while (c->phase != PG_ENDED && (got = sim_far_read(far, bytes, sizeof bytes)) != 0) {
        if (got < 0) {
            sim_far_close(far);
            pg_end(c);
            return;
        }
        if (c->in_len + (size_t)got > c->in_size) {
            c->in_size = MAX(c->in_size * 2, c->in_len + (size_t)got);
            c->in = realloc(c->in, c->in_size);
            INVARIANT(c->in != NULL);
        }
        memcpy(c->in + c->in_len, bytes, (size_t)got);
        c->in_len += (size_t)got;
        pg_proceed(c);
    }
}

static bool accept_conn(struct sim_far *far, void *context)
{
    (void)context;
    if (pg_server.down)
        return false;
    struct pg_conn *c = calloc(1, sizeof *c);
    INVARIANT(c != NULL);
    c->far = *far;
    c->far.readable = readable;
    c->far.context = c;
    *far = c->far;
    c->pid = ++pg_server.pids;
    c->key = (uint32_t)sim_draw();
    c->next = pg_server.conns;
    pg_server.conns = c;
    writer_init(&c->out);
    return true;
}

/* --- from outside --- */

void pg_begin(void)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(5432), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/sim/.s.PGSQL.5432"};

    sim_far_listen((struct sockaddr *)&in, sizeof in, accept_conn, NULL);
    sim_far_listen((struct sockaddr *)&local, sizeof local, accept_conn, NULL);
}

unsigned pg_held(const char *database, const char *user)
{
    unsigned held = 0;

    for (const struct pg_conn *c = pg_server.conns; c != NULL; c = c->next) {
        if (!c->cancel_request && strcmp(c->database, database) == 0 &&
            (user == NULL || strcmp(c->user, user) == 0))
            held += sim_far_held(&c->far);
    }
    return held;
}

void pg_kill_one(bool politely)
{
    unsigned count = 0;

    for (struct pg_conn *c = pg_server.conns; c != NULL; c = c->next)
        count++;
    if (count == 0)
        return;
    struct pg_conn *c = pg_server.conns;
    for (uint64_t skip = sim_below(count); skip > 0; skip--)
        c = c->next;
    sim_note("server %u is killed%s", c->pid, politely ? "" : " at once");
    clients_trouble();
    if (politely) {
        pg_fatal(c, "57P01", "terminating connection due to administrator command");
        return;
    }
    sim_far_reset(&c->far);
    pg_end(c);
}
