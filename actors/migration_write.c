/* A client as PgDoorman 3.10 describes it: to bytes. */
#include "actors/migration.h"

static bool fits_text(struct bytes text)
{
    return text.len <= UINT16_MAX;
}

static void put_text(struct writer *out, struct bytes text)
{
    writer_u16(out, (uint16_t)text.len);
    writer_raw(out, text.at, text.len);
}

static void put_u64(struct writer *out, uint64_t value)
{
    writer_u32(out, (uint32_t)(value >> 32));
    writer_u32(out, (uint32_t)value);
}

bool migration_put_parameter(struct writer *out, const struct parameter *parameter)
{
    if (!fits_text(parameter->name) || !fits_text(parameter->value))
        return false;
    put_text(out, parameter->name);
    put_text(out, parameter->value);
    return true;
}

bool migration_put_entry(struct writer *out, const struct migration_entry *entry)
{
    if (!fits_text(entry->name) || entry->query.len > UINT32_MAX || entry->type_count > INT16_MAX)
        return false;
    writer_u8(out, entry->anonymous);
    if (entry->anonymous)
        put_u64(out, entry->anonymous_key);
    else
        put_text(out, entry->name);
    put_u64(out, entry->hash);
    writer_u32(out, (uint32_t)entry->query.len);
    writer_raw(out, entry->query.at, entry->query.len);
    writer_u16(out, entry->type_count);
    writer_raw(out, entry->types.at, entry->types.len);
    return true;
}

static int check(const struct migration_client *c, struct failure *why)
{
    if (!fits_text(c->database) || !fits_text(c->user) || !fits_text(c->auth_value) ||
        c->address.len > UINT8_MAX)
        return fail(why, "one of its names is too long");
    if (c->entry_count > MIGRATION_ENTRIES)
        return fail(why, "it has %u prepared statements, of which there may be %d", c->entry_count,
                    MIGRATION_ENTRIES);
    return 0;
}

int migration_write(const struct migration_client *c, struct writer *out, struct failure *why)
{
    if (check(c, why) != 0)
        return -1;
    writer_u32(out, MIGRATION_MAGIC);
    writer_u16(out, MIGRATION_VERSION);
    put_u64(out, c->id);
    writer_u32(out, c->secret);
    writer_u8(out, c->transaction_mode);
    put_text(out, c->database);
    put_text(out, c->user);
    writer_u16(out, c->port);
    writer_u8(out, (uint8_t)c->address.len);
    writer_raw(out, c->address.at, c->address.len);
    writer_u16(out, c->parameter_count);
    writer_raw(out, c->parameters.at, c->parameters.len);
    writer_u8(out, c->prepared);
    writer_u8(out, c->async);
    writer_u32(out, c->entry_count);
    writer_raw(out, c->entries.at, c->entries.len);
    writer_u8(out, c->tls);
    writer_u8(out, (uint8_t)c->auth);
    if (c->auth == MIGRATION_AUTH_MD5 || c->auth == MIGRATION_AUTH_KEY)
        put_text(out, c->auth_value);
    return 0;
}
