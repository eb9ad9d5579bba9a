/* Any bytes as what PgDoorman 3.10 says of a client: refused with a reason, or within them lies all
 * that is given out, as many pairs and statements as were announced, and none with a zero byte. */
#include "actors/migration.h"

#include <stdlib.h>

static void inside(struct bytes part, const uint8_t *at, size_t len)
{
    INVARIANT(part.len == 0 ||
              (part.at >= at && part.len <= len && part.at - at <= (ptrdiff_t)(len - part.len)));
}

static void is_text(struct bytes text, const uint8_t *at, size_t len)
{
    inside(text, at, len);
    INVARIANT(text.len == 0 || memchr(text.at, '\0', text.len) == NULL);
}

static void check_parameters(const struct migration_client *c, const uint8_t *at, size_t len)
{
    struct cursor next = cursor_of(c->parameters.at, c->parameters.len);
    struct parameter p;
    uint32_t count = 0;

    for (; migration_next_parameter(&next, &p); count++) {
        is_text(p.name, at, len);
        is_text(p.value, at, len);
    }
    INVARIANT(count == c->parameter_count && !next.bad);
}

static void check_entries(const struct migration_client *c, const uint8_t *at, size_t len)
{
    struct cursor next = cursor_of(c->entries.at, c->entries.len);
    struct migration_entry e;
    uint32_t count = 0;

    for (; migration_next_entry(&next, &e); count++) {
        is_text(e.name, at, len);
        is_text(e.query, at, len);
        inside(e.types, at, len);
        INVARIANT(e.types.len == 4 * (size_t)e.type_count);
    }
    INVARIANT(count == c->entry_count && count <= MIGRATION_ENTRIES && !next.bad);
}

static void try(const uint8_t *data, size_t len)
{
    struct migration_client c;
    struct failure why = {""};

    if (migration_read((struct bytes){data, len}, &c, &why) != MIGRATION_READ) {
        INVARIANT(why.text[0] != '\0');
        return;
    }
    is_text(c.database, data, len);
    is_text(c.user, data, len);
    is_text(c.address, data, len);
    inside(c.auth_value, data, len);
    check_parameters(&c, data, len);
    check_entries(&c, data, len);
}

/* Also with the head put right, without which few inputs would come far. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    try(data, len);
    if (len < 6)
        return 0;
    uint8_t *copy = malloc(len);
    INVARIANT(copy != NULL);
    memcpy(copy, data, len);
    store_be32(copy, MIGRATION_MAGIC);
    store_be16(copy + 4, MIGRATION_VERSION);
    try(copy, len);
    free(copy);
    return 0;
}
