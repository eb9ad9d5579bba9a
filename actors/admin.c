#define LOG_MODULE "pg_doorman::admin"
#include "actors/admin.h"

#include "runtime/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct admin {
    struct actor actor;
    /* Those that wait for the end of a reload, in the order in which they asked for it. */
    struct admin_run *first;
    struct admin_run *last;
};

static struct admin *admin_of(struct actor *a)
{
    return CONTAINER_OF(a, struct admin, actor);
}

/* --- answers --- */

void admin_error(struct admin_run *run, const char *sqlstate, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    write_error(&run->out, "ERROR", sqlstate, text);
    run->failed = true;
}

void admin_success(struct admin_run *run, bool success, const char *tag)
{
    table_list(&run->out, "success", (const char *const[]){success ? "t" : "f"}, 1);
    write_command_complete(&run->out, tag);
}

/* --- commands --- */

static enum admin_result show(struct admin_run *run, const struct admin_statement *s)
{
    admin_show(run, s);
    return ADMIN_DONE;
}

static const struct command {
    const char *word;
    enum admin_result (*run)(struct admin_run *run, const struct admin_statement *s);
} commands[] = {
    {"SHOW", show},
    {"SET", admin_set},
    {"RELOAD", admin_reload},
    {"PAUSE", admin_pool_action},
    {"RESUME", admin_pool_action},
    {"RECONNECT", admin_pool_action},
    {"SHUTDOWN", admin_shutdown},
    {"UPGRADE", admin_upgrade},
    {"RESET", admin_reset},
    {"FLUSH", admin_flush},
    {"SNAPSHOT", admin_snapshot},
};

static void unknown(struct admin_run *run, const struct admin_statement *s)
{
    char word[64];
    size_t len = 0;

    for (const char *c = admin_word(s, 0); *c != '\0' && len < sizeof word - 1; c++)
        word[len++] = isprint((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '?';
    word[len] = '\0';
    log_warn("unknown command %s from %s", word, run->who);
    if (strcmp(word, "COPY") == 0)
        admin_error(run, "0A000", "COPY is not supported here");
    else
        admin_error(run, "58000", "Unsupported query against the admin database");
}

static enum admin_result execute(struct admin_run *run, const struct admin_statement *s)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (admin_word_is(s, 0, commands[i].word))
            return commands[i].run(run, s);
    }
    if (!admin_chatter(run, s))
        unknown(run, s);
    return ADMIN_DONE;
}

/* --- one text of commands --- */

static void run_free(struct admin_run *run)
{
    writer_free(&run->out);
    arena_free(&run->arena);
    free(run);
}

static void run_finish(struct admin_run *run)
{
    if (!run->answered) {
        writer_begin(&run->out, 'I'); /* EmptyQueryResponse */
        writer_end(&run->out);
    }
    if (run->out.failed) {
        writer_free(&run->out);
        writer_init(&run->out);
        write_error(&run->out, "ERROR", "53200", "the answer is too large");
    }
    write_ready_for_query(&run->out, 'I');
    actor_tell(run->worker, run->session,
               MESSAGE(ADMIN_RESULT, .bytes = {run->out.at, run->out.len}));
    run_free(run);
}

static void run_park(struct admin *admin, struct admin_run *run)
{
    run->next = NULL;
    if (admin->first == NULL)
        admin->first = run;
    else
        admin->last->next = run;
    admin->last = run;
}

static void run_continue(struct worker *w, struct admin *admin, struct admin_run *run)
{
    struct admin_statement s;

    run->worker = w;
    while (!run->failed && admin_parse(&run->rest, &s, run->scratch)) {
        if (s.count == 0)
            continue;
        run->answered = true;
        if (execute(run, &s) == ADMIN_LATER) {
            run_park(admin, run);
            return;
        }
    }
    run_finish(run);
}

static void on_query(struct worker *w, struct admin *admin, struct message *m)
{
    struct msg_ADMIN_QUERY asked = message_get_ADMIN_QUERY(m);
    struct admin_run *run = calloc(1, sizeof *run);

    INVARIANT(run != NULL);
    run->worker = w;
    run->admin = &admin->actor;
    run->session = m->sender;
    writer_init(&run->out);
    run->who = arena_copy(&run->arena, (const char *)asked.who.at, asked.who.len);
    run->text.at = (const uint8_t *)arena_copy(&run->arena, (const char *)asked.text.at,
                                               asked.text.len);
    run->text.len = asked.text.len;
    run->rest = run->text;
    run->scratch = arena_alloc(&run->arena, admin_scratch_bytes(asked.text.len));
    if (admin_completion(run)) {
        run->answered = true;
        run_finish(run);
        return;
    }
    run_continue(w, admin, run);
}

static void on_reloaded(struct worker *w, struct admin *admin, struct message *m)
{
    struct bytes error = message_get_DAEMON_RELOADED(m).error;
    struct admin_run *run = admin->first;

    if (run == NULL)
        return;
    admin->first = run->next;
    if (error.len == 0)
        write_command_complete(&run->out, "RELOAD");
    else
        admin_error(run, "F0000", "%.*s", (int)MIN(error.len, (size_t)1000),
                    (const char *)error.at);
    run_continue(w, admin, run);
}

/* --- the actor --- */

static void next_tick(struct worker *w, struct actor *self)
{
    actor_alarm(w, actor_id_of(self), w->now_us + STATISTICS_US, 0);
}

static void admin_receive(struct worker *w, struct actor *self, struct message *m)
{
    struct admin *admin = admin_of(self);

    switch (m->kind) {
    case MESSAGE_START: next_tick(w, self); break;
    case MESSAGE_ALARM:
        statistics_tick();
        next_tick(w, self);
        break;
    case MSG_ADMIN_QUERY: on_query(w, admin, m); break;
    case MSG_DAEMON_RELOADED: on_reloaded(w, admin, m); break;
    default: INVARIANT(!"the console does not understand this kind of message");
    }
}

/* A reload may be one of several commands: the others need a stack as well. */
static bool admin_blocks(const struct actor *self, const struct message *m)
{
    (void)self;
    return m->kind == MSG_ADMIN_QUERY || m->kind == MSG_DAEMON_RELOADED;
}

static uint32_t admin_pack(const struct actor *a, struct packer *out)
{
    uint32_t waiting = 0;

    for (const struct admin_run *run = CONTAINER_OF(a, struct admin, actor)->first; run != NULL;
         run = run->next)
        waiting++;
    pack_str(out, "reloads_awaited");
    pack_uint(out, waiting);
    return 1;
}

static const char *admin_state(const struct actor *a)
{
    return CONTAINER_OF(a, struct admin, actor)->first == NULL ? "open" : "reloading";
}

const struct actor_type admin_type = {
    .name = "admin",
    .size = sizeof(struct admin),
    .rank = RANK_ROOT,
    .number = 6,
    .receive = admin_receive,
    .blocks = admin_blocks,
    .pack = admin_pack,
    .state_name = admin_state,
    .kind_name = message_kind_name,
};
