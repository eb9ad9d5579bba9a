/* Before the commit: is everything there that a document needs? */
#include "actors/upgrade_building.h"

#include "actors/console.h"

/* --- enumerations: a value that is not known here means what nobody here can do --- */

static const uint8_t phases[] = {STATE_PHASE_START, STATE_PHASE_IDLE, STATE_PHASE_WAITING,
                                 STATE_PHASE_ACTIVE, STATE_PHASE_ADMIN};
static const uint8_t transports[] = {0, 1};
static const uint8_t modes[] = {POOL_MODE_TRANSACTION, POOL_MODE_SESSION};
static const uint8_t origins[] = {0, 1};
static const uint8_t statuses[] = {0, 'I', 'T', 'E'};
static const uint8_t ledger_kinds[] = {
    ASK_QUERY,           ASK_FUNCTION, ASK_PARSE, ASK_BIND, ASK_DESCRIBE_STATEMENT,
    ASK_DESCRIBE_PORTAL, ASK_EXECUTE,  ASK_CLOSE, ASK_SYNC};
static const uint8_t ledger_whose[] = {FOR_CLIENT, FOR_POOLER, FROM_POOLER, FOR_MISSING};

static bool is_one_of(uint64_t value, const uint8_t *values, size_t count)
{
    return value <= UINT8_MAX && memchr(values, (int)value, count) != NULL;
}

#define CHECK_KNOWN(value, values, what) check_known(value, values, COUNT_OF(values), what, why)

static int check_known(uint64_t value, const uint8_t *values, size_t count, const char *what,
                       struct failure *why)
{
    if (is_one_of(value, values, count))
        return 0;
    return fail(why, "%s %llu of the state is not known here", what, (unsigned long long)value);
}

/* --- lists --- */

static int check_numbers(struct bytes list, size_t count, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint64_t number = unpack_uint(&u);

        if (u.bad || (number < 1 && count != SIZE_MAX) || number > count)
            return fail(why, "a list of the state does not fit in");
    }
    return u.bad ? fail(why, "a list of the state does not parse") : 0;
}

/* What the values of an element are: a number, bytes, a statement's record, the same or 0, the
 * record of a session that waits, the kind of a request, for whom its reply is. */
#define ROW_NUMBER    'u'
#define ROW_BYTES     'b'
#define ROW_STATEMENT 's'
#define ROW_OPTIONAL  'o'
#define ROW_WAITER    'w'
#define ROW_KIND      'k'
#define ROW_WHOSE     'f'

static bool value_fits(const struct state_document *d, struct unpacker *u, char kind)
{
    if (kind == ROW_BYTES) {
        unpack_bytes(u);
        return true;
    }
    uint64_t number = unpack_uint(u);
    switch (kind) {
    case ROW_STATEMENT: return number >= 1 && number <= d->statement_count;
    case ROW_OPTIONAL: return number <= d->statement_count;
    case ROW_KIND: return is_one_of(number, ledger_kinds, COUNT_OF(ledger_kinds));
    case ROW_WHOSE: return is_one_of(number, ledger_whose, COUNT_OF(ledger_whose));
    case ROW_WAITER:
        return number >= 1 && number <= d->session_count &&
               d->sessions[number - 1].phase == STATE_PHASE_WAITING;
    default: return true;
    }
}

/* A list of lists, each with the values that `row` says; there may be more behind them. */
static int check_rows(const struct state_document *d, struct bytes list, const char *row,
                      const char *what, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);
    uint32_t width = (uint32_t)strlen(row);

    for (uint32_t i = 0; i < length; i++) {
        uint32_t fields = unpack_array(&u);
        bool fits = fields >= width;

        for (uint32_t at = 0; at < fields && !u.bad; at++) {
            if (at < width)
                fits &= value_fits(d, &u, row[at]);
            else
                unpack_skip(&u);
        }
        if (u.bad || !fits)
            return fail(why, "%s of the state does not fit in", what);
    }
    return u.bad ? fail(why, "%s of the state does not parse", what) : 0;
}

static int check_waiters(const struct state_document *d, struct bytes list, struct failure *why)
{
    static const char row[] = {ROW_WAITER, ROW_NUMBER, ROW_NUMBER, '\0'};

    return check_rows(d, list, row, "a queue", why);
}

static int check_names(const struct state_document *d, struct bytes list, struct failure *why)
{
    static const char row[] = {ROW_BYTES, ROW_STATEMENT, '\0'};

    return check_rows(d, list, row, "a list of prepared statements", why);
}

static int check_set(const struct state_document *d, struct bytes list, struct failure *why)
{
    static const char row[] = {ROW_STATEMENT, ROW_NUMBER, '\0'};

    return check_rows(d, list, row, "a list of prepared statements", why);
}

static int check_ledger(const struct state_document *d, struct bytes list, struct failure *why)
{
    static const char row[] = {ROW_KIND,   ROW_WHOSE,  ROW_OPTIONAL, ROW_BYTES,
                               ROW_NUMBER, ROW_NUMBER, ROW_NUMBER,   ROW_NUMBER,
                               ROW_NUMBER, ROW_NUMBER, '\0'};

    return check_rows(d, list, row, "a list of requests under way", why);
}

static int check_parameters(struct bytes list, struct failure *why)
{
    struct unpacker u;
    uint32_t fields = list_of(&u, list);

    if (fields == 0 && !u.bad)
        return 0;
    for (int set = skip_nil(&u); set < 2; set++) {
        uint32_t count = unpack_array(&u);

        u.bad |= count % 2 != 0;
        for (uint32_t i = 0; i < count && !u.bad; i++)
            unpack_bytes(&u);
    }
    unpack_bool(&u);
    return u.bad || fields < 3 ? fail(why, "the settings of a client do not parse") : 0;
}

static bool pairs_parse(struct bytes parameters)
{
    struct unpacker pairs = unpacker_of(parameters.at, parameters.len);

    while (pairs.at < pairs.end && !pairs.bad)
        unpack_bytes(&pairs);
    return !pairs.bad;
}

/* --- records --- */

static int check_backend(const struct state_document *d, const struct state_backend *b,
                         struct failure *why)
{
    if (CHECK_KNOWN(b->status, statuses, "status") != 0)
        return -1;
    if (!pairs_parse(b->parameters) || b->key.len > sizeof((struct backend *)0)->key ||
        b->address.len > sizeof(struct sockaddr_storage) || b->temp_owner > d->session_count ||
        b->unnamed_owner > d->session_count)
        return fail(why, "a server connection of the state does not fit in");
    if (check_set(d, b->statements, why) != 0 ||
        check_numbers(b->text_settings, SIZE_MAX, why) != 0 ||
        check_parameters(b->applied, why) != 0 ||
        check_numbers(b->tracked_before, SIZE_MAX, why) != 0)
        return -1;
    return check_ledger(d, b->ledger, why);
}

static int check_console(struct bytes list, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint32_t fields = unpack_array(&u);

        unpack_bytes(&u);
        unpack_bytes(&u);
        uint64_t parameters = unpack_uint(&u);
        uint32_t types = unpack_array(&u);
        for (uint32_t at = 0; at < types && !u.bad; at++)
            unpack_uint(&u);
        for (uint32_t at = 4; at < fields && !u.bad; at++)
            unpack_skip(&u);
        if (u.bad || fields < 4 || parameters > types || types > CONSOLE_PARAMETERS)
            return fail(why, "a command of the console does not fit in");
    }
    return u.bad ? fail(why, "commands of the console do not parse") : 0;
}

/* They share one piece of memory, in which 16 bits say where each begins. */
static bool names_fit(const struct state_session *s)
{
    size_t most = UINT16_MAX / 4;

    return s->user.len < most && s->database.len < most && s->application_name.len < most &&
           s->address.len < most;
}

static int check_session(const struct state_document *d, const struct state_session *s,
                         struct failure *why)
{
    bool pooled = s->phase == STATE_PHASE_IDLE || s->phase == STATE_PHASE_WAITING ||
                  s->phase == STATE_PHASE_ACTIVE;
    bool lost = s->phase == STATE_PHASE_IDLE; /* a reload may have taken its pool away */

    if (CHECK_KNOWN(s->phase, phases, "phase") != 0 ||
        CHECK_KNOWN(s->transport, transports, "transport") != 0 ||
        CHECK_KNOWN(s->mode, modes, "pool mode") != 0)
        return -1;
    if (s->secret.len < sizeof((struct session *)0)->secret || s->secret.len > SESSION_KEY ||
        (pooled && s->pool == 0 && !lost) ||
        (s->backend != 0) != (s->phase == STATE_PHASE_ACTIVE) || s->scanned > s->input.len ||
        s->peer.len > sizeof(struct sockaddr_storage) || !names_fit(s))
        return fail(why, "a session of the state does not fit in");
    if (check_console(s->console, why) != 0 || check_parameters(s->wanted, why) != 0 ||
        check_set(d, s->anonymous, why) != 0)
        return -1;
    return check_names(d, s->statements, why);
}

int upgrade_build_check(const struct state_document *d, struct failure *why)
{
    for (size_t i = 0; i < d->statement_count; i++) {
        if (d->statements[i].pool > d->pool_count)
            return fail(why, "a prepared statement does not fit in");
    }
    for (size_t i = 0; i < d->pool_count; i++) {
        if (CHECK_KNOWN(d->pools[i].dynamic, origins, "origin of a pool's user") != 0)
            return -1;
        if (!pairs_parse(d->pools[i].parameters) || !pairs_parse(d->pools[i].overlay))
            return fail(why, "the parameters of a pool do not parse");
        if (check_numbers(d->pools[i].idle, d->backend_count, why) != 0 ||
            check_waiters(d, d->pools[i].waiters, why) != 0)
            return -1;
    }
    for (size_t i = 0; i < d->backend_count; i++) {
        if (check_backend(d, &d->backends[i], why) != 0)
            return -1;
    }
    for (size_t i = 0; i < d->session_count; i++) {
        if (check_session(d, &d->sessions[i], why) != 0)
            return -1;
    }
    return 0;
}
