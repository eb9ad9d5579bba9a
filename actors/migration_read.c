/* A client as PgDoorman 3.10 describes it: from bytes. */
#include "actors/migration.h"

static uint64_t read_u64(struct cursor *c)
{
    uint64_t high = cursor_u32(c);

    return high << 32 | cursor_u32(c);
}

static struct bytes read_text(struct cursor *c)
{
    return cursor_bytes(c, cursor_u16(c));
}

bool migration_next_parameter(struct cursor *at, struct parameter *out)
{
    if (at->bad || at->at == at->end)
        return false;
    out->name = read_text(at);
    out->value = read_text(at);
    return !at->bad;
}

bool migration_next_entry(struct cursor *at, struct migration_entry *out)
{
    if (at->bad || at->at == at->end)
        return false;
    uint8_t kind = cursor_u8(at);
    if (kind > 1)
        at->bad = true;
    *out = (struct migration_entry){.anonymous = kind == 1};
    if (out->anonymous)
        out->anonymous_key = read_u64(at);
    else
        out->name = read_text(at);
    out->hash = read_u64(at);
    out->query = cursor_bytes(at, cursor_u32(at));
    out->type_count = cursor_u16(at);
    if (out->type_count > INT16_MAX)
        at->bad = true;
    out->types = cursor_bytes(at, 4 * (size_t)out->type_count);
    return !at->bad;
}

/* Names and texts become strings that end with a NUL. */
static bool has_nul(struct bytes text)
{
    return text.len > 0 && memchr(text.at, '\0', text.len) != NULL;
}

static int read_parameters(struct cursor *c, struct migration_client *out, struct failure *why)
{
    const uint8_t *begin;
    struct parameter p;

    out->parameter_count = cursor_u16(c);
    begin = c->at;
    for (uint32_t i = 0; i < out->parameter_count; i++) {
        if (!migration_next_parameter(c, &p))
            return fail(why, "its parameters are damaged");
        if (has_nul(p.name) || has_nul(p.value))
            return fail(why, "a parameter has a zero byte");
    }
    out->parameters = (struct bytes){begin, (size_t)(c->at - begin)};
    return 0;
}

static int read_entries(struct cursor *c, struct migration_client *out, struct failure *why)
{
    const uint8_t *begin;
    struct migration_entry e;
    uint64_t text_bytes = 0;

    out->entry_count = cursor_u32(c);
    if (out->entry_count > MIGRATION_ENTRIES)
        return fail(why, "%u prepared statements, of which there may be %d", out->entry_count,
                    MIGRATION_ENTRIES);
    begin = c->at;
    for (uint32_t i = 0; i < out->entry_count; i++) {
        if (!migration_next_entry(c, &e))
            return fail(why, "its prepared statements are damaged");
        if (has_nul(e.name) || has_nul(e.query))
            return fail(why, "a prepared statement has a zero byte");
        text_bytes += e.query.len;
    }
    if (text_bytes > MIGRATION_TEXT_BYTES)
        return fail(why, "more than %d bytes of prepared statements", MIGRATION_TEXT_BYTES);
    out->entries = (struct bytes){begin, (size_t)(c->at - begin)};
    return 0;
}

/* It may be missing, and of a kind that is not known. */
static void read_auth(struct cursor *c, struct migration_client *out)
{
    if (cursor_left(c) == 0)
        return;
    uint8_t kind = cursor_u8(c);
    if (kind > MIGRATION_AUTH_PENDING)
        return;
    out->auth = (enum migration_auth)kind;
    if (kind == MIGRATION_AUTH_MD5 || kind == MIGRATION_AUTH_KEY)
        out->auth_value = read_text(c);
}

static int read_rest(struct cursor *c, struct migration_client *out, struct failure *why)
{
    out->id = read_u64(c);
    out->secret = cursor_u32(c);
    out->transaction_mode = cursor_u8(c) != 0;
    out->database = read_text(c);
    out->user = read_text(c);
    out->port = cursor_u16(c);
    out->address = cursor_bytes(c, cursor_u8(c));
    if (read_parameters(c, out, why) != 0)
        return -1;
    out->prepared = cursor_u8(c) != 0;
    out->async = cursor_u8(c) != 0;
    if (read_entries(c, out, why) != 0)
        return -1;
    out->tls = cursor_u8(c) != 0;
    read_auth(c, out);
    if (c->bad)
        return fail(why, "its state is cut off");
    if (has_nul(out->database) || has_nul(out->user) || has_nul(out->address) ||
        (out->auth == MIGRATION_AUTH_MD5 && has_nul(out->auth_value)))
        return fail(why, "a name has a zero byte");
    return 0;
}

enum migration_result migration_read(struct bytes state, struct migration_client *out,
                                     struct failure *why)
{
    *out = (struct migration_client){0};
    if (state.len == 0) {
        fail(why, "not the state of a client");
        return MIGRATION_FOREIGN;
    }
    struct cursor c = cursor_of(state.at, state.len);
    uint32_t magic = cursor_u32(&c);
    uint16_t version = cursor_u16(&c);
    if (c.bad || magic != MIGRATION_MAGIC) {
        fail(why, "not the state of a client");
        return MIGRATION_FOREIGN;
    }
    if (version != MIGRATION_VERSION) {
        fail(why, "unsupported version %u", version);
        return MIGRATION_FOREIGN;
    }
    return read_rest(&c, out, why) == 0 ? MIGRATION_READ : MIGRATION_REFUSED;
}
