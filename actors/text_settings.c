/* The settings by which PostgreSQL reads and plans a statement's text: two backends, or two
 * clients, under other ones must not share it. What a backend has is its own beginning, changed by
 * what its client wants; SET within the lease counts as far as PostgreSQL reports it. */
#include "actors/backend.h"
#include "actors/statement_internal.h"

static const char *const settings[TEXT_SETTINGS] = {
    "search_path",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_text_search_config",
    "role",
    "standard_conforming_strings",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "client_encoding", /* the last one: for texts beyond ASCII only */
};

enum { UNKNOWN_CLIENT = 1 };

static uint64_t value_hash(struct bytes value)
{
    return value.at == NULL ? 0 : statement_hash(value) | 1;
}

/* Only equality counts, and only within this process. */
static void combine(struct backend *b, const uint64_t values[TEXT_SETTINGS])
{
    uint64_t digest = 0;

    for (size_t i = 0; i < TEXT_SETTINGS; i++) {
        if (i == TEXT_SETTINGS - 1)
            b->digest[0] = digest;
        if (values[i] != 0)
            digest = digest * 0x9e3779b97f4a7c15 + (values[i] ^ (i + 1));
    }
    b->digest[1] = digest;
}

void text_settings_begin(struct backend *b)
{
    for (size_t i = 0; i < TEXT_SETTINGS; i++)
        b->text_base[i] = value_hash(parameters_find(&b->parameters, settings[i]));
    combine(b, b->text_base);
    b->digest_client = 0;
}

void text_settings_apply(struct backend *b, const struct parameter_set *wanted)
{
    uint64_t values[TEXT_SETTINGS];

    for (size_t i = 0; i < TEXT_SETTINGS; i++) {
        struct bytes value = parameter_set_find(wanted, bytes_of(settings[i]));

        values[i] = value.at == NULL ? b->text_base[i] : value_hash(value);
    }
    combine(b, values);
    b->digest_client = wanted == NULL ? 0 : wanted->hash;
}

void text_settings_changed(struct backend *b, const struct parameter_set *wanted, struct bytes name)
{
    uint64_t values[TEXT_SETTINGS];
    bool concerned = false;

    for (size_t i = 0; i < TEXT_SETTINGS; i++)
        concerned |= bytes_equal(name, bytes_of(settings[i]));
    if (!concerned)
        return;
    for (size_t i = 0; i < TEXT_SETTINGS; i++) {
        struct bytes value = parameters_find(&b->parameters, settings[i]);

        if (value.at == NULL)
            value = parameter_set_find(wanted, bytes_of(settings[i]));
        values[i] = value_hash(value);
    }
    combine(b, values);
    b->digest_client = UNKNOWN_CLIENT; /* to be made anew for whoever comes next */
}
