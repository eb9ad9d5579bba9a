/* From actors to records: sessions. */
#include "actors/upgrade_packing.h"

#include "actors/console.h"
static enum state_phase phase_of(const struct session *s)
{
    switch ((enum session_phase)s->phase) {
    case SESSION_START: return STATE_PHASE_START;
    case SESSION_WAITING: return STATE_PHASE_WAITING;
    case SESSION_BOUND: return STATE_PHASE_ACTIVE;
    case SESSION_ADMIN: return STATE_PHASE_ADMIN;
    default: INVARIANT(s->phase == SESSION_IDLE); return STATE_PHASE_IDLE;
    }
}

static struct bytes wait_of(struct packing *p, const struct session *s)
{
    struct packer *list = scratch_list(&p->scratch);

    if (s->phase != SESSION_WAITING)
        return (struct bytes){NULL, 0};
    pack_array(list, 1);
    pack_uint(list, s->asked_us);
    return packed(list);
}

static struct bytes session_counters(struct packing *p, const struct session *s)
{
#define X(name) s->name,
    uint64_t numbers[] = {UPGRADE_SESSION_COUNTERS(X)};
#undef X

    return numbers_list(p, numbers, COUNT_OF(numbers));
}

static struct bytes input_of(struct packing *p, const struct session *s)
{
    struct bytes waits = {NULL, 0};

    if (s->in != NULL)
        waits = (struct bytes){session_input(s), session_input_len(s)};
    return with_arrived(p, waits, &s->actor, &s->conn);
}

/* By database and user: the pool actor itself may have been replaced. 0: it was removed, and there
 * is no server connection that it still has. */
static uint64_t pool_record(const struct packing *p, const struct session *s)
{
    uint64_t number = s->shared == NULL ? 0 : record_of(p, atomic_load(&s->shared->pool));

    return number == 0 && s->backend != NULL ? record_of(p, s->backend->pool) : number;
}

static uint64_t session_flags(const struct session *s)
{
#define FLAG(here, there) | (s->flags & (here) ? (there) : 0)
#define BIT(name, there)  | (s->name ? (there) : 0)
    return 0 UPGRADE_SESSION_FLAGS(FLAG) UPGRADE_SESSION_BITS(BIT);
#undef FLAG
#undef BIT
}

/* Commands that were prepared on the console. */
static struct bytes console_of(struct packing *p, const struct session *s)
{
    struct packer *list = scratch_list(&p->scratch);
    uint32_t count = 0;

    if (s->phase != SESSION_ADMIN || s->console == NULL || s->console->statements == NULL)
        return (struct bytes){NULL, 0};
    size_t mark = pack_array_open(list);
    for (const struct console_statement *c = s->console->statements; c != NULL; c = c->next) {
        pack_array(list, 4);
        pack_bin(list, c->name, strlen(c->name));
        pack_bin(list, c->text, strlen(c->text));
        pack_uint(list, c->parameters);
        pack_array(list, CONSOLE_PARAMETERS);
        for (size_t i = 0; i < CONSOLE_PARAMETERS; i++)
            pack_uint(list, c->types[i]);
        count++;
    }
    pack_array_close(list, mark, count);
    return packed(list);
}

void put_session(struct packing *p, size_t id, struct session *s)
{
    uint8_t key[SESSION_KEY];
    struct state_session record = {
        .id = id,
        .secret = {key, session_key(s, key)},
        .fd = add_fd(p, &s->conn),
        .transport = s->flags & SESSION_LOCAL ? 1 : 0,
        .phase = phase_of(s),
        .pool = pool_record(p, s),
        .database = text(session_database(s)),
        .user = text(session_user(s)),
        .statements = names_of(p, &s->statements),
        .unnamed = statement_number(p, s->unnamed),
        .anonymous = set_of(p, s->anonymous),
        .input = input_of(p, s),
        .output = output_of(p, &s->conn),
        .backend = s->backend == NULL ? 0 : p->load->record_of[s->backend->actor.index],
        .wait = wait_of(p, s),
        .query_us = s->query_us,
        .flags = session_flags(s),
        .wanted = set_of_parameters(p, s->wanted),
        .counters = session_counters(p, s),
        .application_name = text(session_application(s)),
        .address = text(session_address(s)),
        .console = console_of(p, s),
        .scanned = s->in_scanned,
        .cancel_wanted = s->cancel_wanted,
    };

#define X(name) record.name = s->name;
    UPGRADE_SESSION_NUMBERS(X)
#undef X
    if (s->login != NULL)
        record.peer = (struct bytes){(const uint8_t *)&s->login->peer, sizeof s->login->peer};
    state_put_session(p->out, &record);
    scratch_clear(&p->scratch);
}
