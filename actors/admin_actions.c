/* Commands that change something. */
#define LOG_MODULE "pg_doorman::admin"
#include "actors/admin.h"

#include "actors/auth_query.h"
#include "runtime/log.h"

#include <signal.h>
#include <strings.h>
#include <unistd.h>

/* --- the process --- */

enum admin_result admin_reload(struct admin_run *run, const struct admin_statement *s)
{
    struct message *m = MESSAGE(DAEMON_RELOAD, .unused = 0);

    (void)s;
    log_info("RELOAD by %s", run->who);
    m->sender = actor_id_of(run->admin);
    if (actor_tell(run->worker, app.daemon, m))
        return ADMIN_LATER;
    admin_error(run, "F0000", "the configuration cannot be reloaded now");
    return ADMIN_DONE;
}

enum admin_result admin_shutdown(struct admin_run *run, const struct admin_statement *s)
{
    (void)s;
    log_info("SHUTDOWN by %s", run->who);
    admin_success(run, actor_tell_kind(run->worker, app.daemon, MSG_DAEMON_SHUTDOWN), "SHUTDOWN");
    return ADMIN_DONE;
}

enum admin_result admin_upgrade(struct admin_run *run, const struct admin_statement *s)
{
    (void)s;
    log_info("UPGRADE command: sending SIGUSR2 to PID %d, by %s", (int)getpid(), run->who);
    admin_success(run, kill(getpid(), SIGUSR2) == 0, "UPGRADE");
    return ADMIN_DONE;
}

/* --- pools --- */

static const struct pool_action {
    const char *tag;
    uint16_t kind;
} pool_actions[] = {
    {"PAUSE", MSG_POOL_PAUSE},
    {"RESUME", MSG_POOL_RESUME},
    {"RECONNECT", MSG_POOL_RECONNECT},
};

struct acting {
    struct worker *worker;
    uint16_t kind;
    const char *database; /* NULL: all */
    uint32_t told;
};

static void act(void *context, struct pool_shared *shared)
{
    struct acting *acting = context;
    actor_id pool = atomic_load(&shared->pool);

    if (pool == 0 || (acting->database != NULL && strcmp(acting->database, shared->database) != 0))
        return;
    struct message *m = message_new(acting->kind);
    struct msg_POOL_PAUSE fields = {0};
    message_put_POOL_PAUSE(m, &fields); /* all three have the same field */
    m->kind = acting->kind;
    acting->told += actor_tell(acting->worker, pool, m);
}

enum admin_result admin_pool_action(struct admin_run *run, const struct admin_statement *s)
{
    const struct pool_action *action = pool_actions;
    struct acting acting = {.worker = run->worker};

    while (!admin_word_is(s, 0, action->tag))
        action++;
    acting.kind = action->kind;
    acting.database = s->count > 1 ? admin_word(s, 1) : NULL;
    log_info("%s %s by %s", action->tag, acting.database == NULL ? "all" : acting.database,
             run->who);
    directory_each(act, &acting);
    if (acting.told == 0 && acting.database != NULL)
        admin_error(run, "3D000", "No pool for database \"%s\"", acting.database);
    else
        write_command_complete(&run->out, action->tag);
    return ADMIN_DONE;
}

/* --- settings --- */

static void set_log_level(struct admin_run *run, const struct admin_statement *s)
{
    struct bytes value = admin_set_value(s->value);
    const char *filter = arena_copy(&run->arena, (const char *)value.at, value.len);
    struct failure why;

    if (log_set_filter(filter, &why) != 0) {
        admin_error(run, "42601", "%s", why.text);
        return;
    }
    log_info("SET log_level = '%s' by %s", filter, run->who);
    write_command_complete(&run->out, "SET");
}

static void unknown_parameter(struct admin_run *run, const char *name)
{
    char *capitals = arena_text(&run->arena, name);

    for (char *c = capitals; *c != '\0'; c++) {
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    }
    admin_error(run, "42601", "Unknown SET parameter: %s. Supported: log_level", capitals);
}

enum admin_result admin_set(struct admin_run *run, const struct admin_statement *s)
{
    bool scoped = admin_word_is(s, 1, "session") || admin_word_is(s, 1, "local");
    const char *name = admin_word(s, scoped && s->count > 3 ? 2 : 1);

    if (s->count < 3)
        admin_error(run, "42601", "SET requires: SET <parameter> = '<value>'");
    else if (strcasecmp(name, "log_level") == 0 && !scoped)
        set_log_level(run, s);
    else if (admin_is_session_parameter(name))
        write_command_complete(&run->out, "SET"); /* nothing here depends on it */
    else
        unknown_parameter(run, name);
    return ADMIN_DONE;
}

enum admin_result admin_reset(struct admin_run *run, const struct admin_statement *s)
{
    if (s->count == 2 && admin_word_is(s, 1, "interner")) {
        /* Texts in use stay where they are; their next use lists them again. */
        statement_text_reset();
        write_command_complete(&run->out, "RESET");
    } else {
        admin_error(run, "58000",
                    "Unsupported RESET target \xe2\x80\x94 only RESET INTERNER is supported");
    }
    return ADMIN_DONE;
}

/* --- users that were looked up --- */

struct flushing {
    struct worker *worker;
    const char *database; /* NULL: all */
    const char *user;     /* "": all */
    uint32_t told;
};

static void flush(void *context, struct auth_query_state *state)
{
    struct flushing *f = context;

    if (f->database == NULL || strcmp(f->database, state->database) == 0)
        f->told += actor_tell(f->worker, atomic_load(&state->actor),
                              MESSAGE(AUTH_FLUSH, .user = bytes_of(f->user)));
}

enum admin_result admin_flush(struct admin_run *run, const struct admin_statement *s)
{
    struct flushing flushing = {.worker = run->worker,
                                .database = s->count > 2 ? admin_word(s, 2) : NULL,
                                .user = s->count > 3 ? admin_word(s, 3) : ""};

    if (s->count < 2 || s->count > 4 || !admin_word_is(s, 1, "auth_query")) {
        admin_error(run, "58000",
                    "Unsupported FLUSH target \xe2\x80\x94 only FLUSH AUTH_QUERY [db [user]] is "
                    "supported");
        return ADMIN_DONE;
    }
    log_info("FLUSH AUTH_QUERY by %s", run->who);
    auth_query_each(flush, &flushing);
    if (flushing.told == 0 && flushing.database != NULL)
        admin_error(run, "3D000", "No auth_query for database \"%s\"", flushing.database);
    else
        write_command_complete(&run->out, "FLUSH");
    return ADMIN_DONE;
}
