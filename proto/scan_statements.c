/* One statement after another, by its first words. */
#include "proto/scan_internal.h"

static void leaves(struct scan *s, uint16_t kind)
{
    s->effect.leaves |= kind;
    s->effect.clears &= (uint16_t)~kind;
    s->effect.seen |= kind;
}

static void clears(struct scan *s, uint16_t kind)
{
    s->effect.clears |= kind;
    if (kind & SCAN_SET) {
        s->effect.clears &= (uint16_t)~SCAN_RESET_ONE;
        s->effect.setting = 0;
    }
}

static bool ends(const struct scan *s)
{
    return s->token == TOKEN_END || s->token == TOKEN_SEMICOLON;
}

static bool is_symbol(const struct scan *s, uint8_t c)
{
    return s->token == TOKEN_OTHER && *s->word == c && s->at == s->word + 1;
}

static bool next_is(struct scan *s, const char *word)
{
    scan_next(s);
    return scan_is(s, word);
}

/* --- settings --- */

/* The name that begins at the token; the token behind it is next. */
static uint32_t setting_name(struct scan *s)
{
    uint32_t hash = 2166136261u;

    for (;;) {
        if (s->token != TOKEN_WORD)
            return SCAN_MANY;
        for (uint32_t i = 0; i < s->len; i++)
            hash = (hash ^ scan_lower(s->word[i])) * 16777619u;
        scan_next(s);
        if (!is_symbol(s, '.'))
            return hash == 0 || hash == SCAN_MANY ? 1 : hash;
        hash = (hash ^ '.') * 16777619u;
        scan_next(s);
    }
}

static void sets(struct scan *s, uint32_t name)
{
    struct scan_effect *e = &s->effect;

    leaves(s, SCAN_SET);
    e->clears &= (uint16_t)~SCAN_RESET_ONE;
    e->setting = e->setting == 0 || e->setting == name ? name : SCAN_MANY;
}

static void set_authorization(struct scan *s)
{
    if (next_is(s, "default"))
        clears(s, SCAN_AUTHORIZATION);
    else
        leaves(s, SCAN_AUTHORIZATION);
    s->effect.seen |= SCAN_SET;
}

static void set_role(struct scan *s)
{
    if (next_is(s, "none"))
        clears(s, SCAN_ROLE);
    else
        leaves(s, SCAN_ROLE);
    s->effect.seen |= SCAN_SET;
}

/* SET [SESSION] what follows; LOCAL and the like have been dealt with. */
static void set_lasting(struct scan *s)
{
    if (scan_is(s, "role")) {
        set_role(s);
        return;
    }
    if (scan_is(s, "session_authorization")) {
        leaves(s, SCAN_AUTHORIZATION);
        s->effect.seen |= SCAN_SET;
        return;
    }
    uint32_t name = setting_name(s);
    if (name != SCAN_MANY && (is_symbol(s, '=') || scan_is(s, "to"))) {
        sets(s, name);
        return;
    }
    /* A quoted name may be any; SET TIME ZONE and the like stand for settings of other names. */
    sets(s, SCAN_MANY);
    leaves(s, SCAN_ROLE | SCAN_AUTHORIZATION);
}

static void on_set(struct scan *s)
{
    scan_next(s);
    if (scan_is(s, "local") || scan_is(s, "transaction") || scan_is(s, "constraints")) {
        s->effect.seen |= SCAN_SET;
        return;
    }
    if (!scan_is(s, "session")) {
        set_lasting(s);
        return;
    }
    scan_next(s);
    if (scan_is(s, "session")) /* SET SESSION SESSION AUTHORIZATION: PostgreSQL takes it */
        scan_next(s);
    if (scan_is(s, "authorization"))
        set_authorization(s);
    else if (scan_is(s, "characteristics"))
        sets(s, SCAN_MANY);
    else
        set_lasting(s);
}

static void on_reset(struct scan *s)
{
    struct scan_effect *e = &s->effect;

    scan_next(s);
    if (scan_is(s, "all")) {
        clears(s, SCAN_SET);
    } else if (scan_is(s, "role")) {
        clears(s, SCAN_ROLE);
    } else if (scan_is(s, "session")) {
        if (next_is(s, "authorization"))
            clears(s, SCAN_AUTHORIZATION);
    } else {
        uint32_t name = setting_name(s);
        bool same = e->setting == 0 || e->setting == name;

        if (name == SCAN_MANY || !ends(s))
            return;
        e->setting = same ? name : SCAN_MANY;
        e->clears = (uint16_t)(same ? e->clears | SCAN_RESET_ONE : e->clears & ~SCAN_RESET_ONE);
    }
}

/* --- the others --- */

static void on_prepare(struct scan *s)
{
    if (!next_is(s, "transaction"))
        leaves(s, SCAN_PREPARE);
}

static void on_deallocate(struct scan *s)
{
    if (next_is(s, "prepare"))
        scan_next(s);
    if (scan_is(s, "all"))
        clears(s, SCAN_PREPARE);
}

static void on_declare(struct scan *s)
{
    leaves(s, SCAN_DECLARE);
}

static void on_close(struct scan *s)
{
    if (next_is(s, "all"))
        clears(s, SCAN_DECLARE);
}

static void on_listen(struct scan *s)
{
    leaves(s, SCAN_LISTEN);
}

static void on_unlisten(struct scan *s)
{
    scan_next(s);
    if (is_symbol(s, '*'))
        clears(s, SCAN_LISTEN);
}

static void on_discard(struct scan *s)
{
    scan_next(s);
    if (scan_is(s, "all"))
        clears(s, SCAN_KINDS);
    else if (scan_is(s, "temp") || scan_is(s, "temporary"))
        clears(s, SCAN_TEMP);
}

/* Only the statement that does nothing else is believed. */
static void on_select(struct scan *s)
{
    if (!next_is(s, "pg_advisory_unlock_all"))
        return;
    scan_next(s);
    if (!is_symbol(s, '('))
        return;
    scan_next(s);
    if (!is_symbol(s, ')'))
        return;
    scan_next(s);
    if (ends(s))
        clears(s, SCAN_ADVISORY);
}

/* What was cleared before may be back. */
static void on_rollback(struct scan *s)
{
    s->effect.clears = 0;
    if (s->effect.setting != 0)
        s->effect.setting = SCAN_MANY;
}

static void on_create(struct scan *s)
{
    s->created = true;
}

static void on_copy(struct scan *s)
{
    s->effect.leaves |= SCAN_COPIES;
}

static const struct {
    const char *word;
    void (*act)(struct scan *s);
} statements[] = {
    {"set", on_set},           {"reset", on_reset},
    {"prepare", on_prepare},   {"deallocate", on_deallocate},
    {"declare", on_declare},   {"close", on_close},
    {"listen", on_listen},     {"unlisten", on_unlisten},
    {"discard", on_discard},   {"select", on_select},
    {"rollback", on_rollback}, {"abort", on_rollback},
    {"create", on_create},     {"copy", on_copy},
};

void scan_statements(struct scan *s)
{
    do {
        scan_next(s);
        for (size_t i = 0; i < COUNT_OF(statements); i++) {
            if (!scan_is(s, statements[i].word))
                continue;
            statements[i].act(s);
            break;
        }
        while (!ends(s))
            scan_next(s);
    } while (s->token != TOKEN_END);
    if (s->created)
        on_rollback(s);
}
