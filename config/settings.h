/* settings.h: the one table of all settings.
 *
 * A row is a setting: section, name, type, place in the struct, default, bounds, when a change
 * takes effect, and what it is for. The decoder, the bounds check, config_visit, config_equal,
 * `generate` and the documentation walk this table; adding a setting is adding a field and a row.
 * The order of rows is the order in which people read them.
 */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include "config/config.h"

enum setting_section {
    SECTION_TOP,
    SECTION_INCLUDE,
    SECTION_GENERAL,
    SECTION_POOL,
    SECTION_USER,
    SECTION_AUTH_QUERY,
    SECTION_WEB,
    SECTION_TALOS
};

enum setting_type {
    SETTING_STRING, /* char *, NULL when unset */
    SETTING_BOOL,   /* bool */
    SETTING_U16,    /* uint64_t, this and the next six */
    SETTING_U32,
    SETTING_U64,
    SETTING_USIZE,
    SETTING_MS,       /* milliseconds, as a plain number */
    SETTING_DURATION, /* milliseconds */
    SETTING_BYTES,
    SETTING_POOL_MODE, /* char * */
    SETTING_LIST,      /* struct string_list */
    SETTING_CIDR_LIST, /* struct string_list */
    SETTING_MAP,       /* struct pair_list */
    SETTING_HBA,       /* char *; text, or a table with path or content */
    SETTING_SECTION    /* a table or list of tables with rows of its own; no field */
};

/* When a changed value takes effect after a reload. */
enum setting_reload {
    RELOAD_LIVE,    /* at once, everywhere */
    RELOAD_CLIENT,  /* for client connections and sockets opened afterwards */
    RELOAD_BACKEND, /* for backend connections opened afterwards */
    RELOAD_POOL,    /* by changing or rebuilding the pools concerned */
    RELOAD_RESTART, /* after a restart or binary upgrade */
    RELOAD_NEVER    /* no effect here; accepted for old files */
};

enum {
    SETTING_REQUIRED = 1,
    SETTING_SECRET = 2, /* never shown */
    SETTING_FIXED = 4   /* SHOW CONFIG and /api/config say: not changeable */
};

struct setting {
    enum setting_section section;
    const char *name;
    enum setting_type type;
    size_t offset;        /* in the section's struct */
    const char *fallback; /* as one would write it in a file; NULL: unset */
    unsigned flags;
    uint64_t least;     /* numbers only */
    uint64_t most;      /* 0: whatever the type holds */
    const char *bounds; /* how a broken bound is told: "must be > 0" */
    enum setting_reload reload;
    const char *help;
};

extern const struct setting settings[];
extern const size_t setting_count;

/* A second name that old files use for a setting. */
struct setting_alias {
    enum setting_section section;
    const char *alias;
    const char *name;
    bool deprecated;
};
extern const struct setting_alias setting_aliases[];
extern const size_t setting_alias_count;

/* Exactly this name (or, by alias, its modern one) in this section; NULL when unknown. */
const struct setting *setting_find(enum setting_section section, const char *name);
const struct setting_alias *setting_find_alias(enum setting_section section, const char *alias);
const char *setting_section_name(enum setting_section section); /* "general", "pools.NAME" */
const char *setting_type_name(enum setting_type type);          /* "u16", "a string" */
/* What to tell about a name that no section row has: obsolete, at home elsewhere, or misspelt.
 * Writes the half sentence that follows "unknown setting `x` in [general]". Returns out. */
const char *setting_advice(enum setting_section section, const char *name, char *out, size_t size);

static inline bool setting_is_number(const struct setting *s)
{
    return s->type >= SETTING_U16 && s->type <= SETTING_BYTES;
}
static inline bool setting_is_text(const struct setting *s)
{
    return s->type == SETTING_STRING || s->type == SETTING_POOL_MODE || s->type == SETTING_HBA;
}
static inline bool setting_is_list(const struct setting *s)
{
    return s->type == SETTING_LIST || s->type == SETTING_CIDR_LIST;
}
/* The field in the section's struct. */
static inline void *setting_at(const struct setting *s, const void *section)
{
    return (char *)(uintptr_t)section + s->offset;
}

#endif
