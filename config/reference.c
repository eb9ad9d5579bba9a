#include "config/reference.h"

#include <stdio.h>
#include <stdlib.h>

struct chapter {
    enum setting_section section;
    const char *title;
    const char *intro;
};

static const struct chapter general_chapters[] = {
    {SECTION_INCLUDE, "include", "Further files, merged over this one."},
    {SECTION_GENERAL, "general", "Settings of the whole process."},
    {SECTION_TALOS, "talos", "Login with tokens that carry roles per database."},
};
static const struct chapter pool_chapters[] = {
    {SECTION_POOL, "pools.NAME", "NAME is the name of the database that clients ask for."},
    {SECTION_USER, "pools.NAME.users", "A list, or a table with numbers as keys."},
    {SECTION_AUTH_QUERY, "pools.NAME.auth_query", "Users that are looked up in PostgreSQL."},
};
static const struct chapter web_chapters[] = {
    {SECTION_WEB, "web",
     "The HTTP listener: metrics for Prometheus under /metrics, and the web console. The section "
     "may also be called prometheus. What each metric means stands in its HELP line."},
};

static const struct page {
    const char *name;
    const char *title;
    const struct chapter *chapters;
    size_t count;
} pages[REFERENCE_PAGES] = {
    {"general.md", "General settings", general_chapters, COUNT_OF(general_chapters)},
    {"pool.md", "Settings of pools", pool_chapters, COUNT_OF(pool_chapters)},
    {"prometheus.md", "Metrics and web console", web_chapters, COUNT_OF(web_chapters)},
};

static const char *type_words(const struct setting *s)
{
    switch (s->type) {
    case SETTING_STRING: return "text";
    case SETTING_HBA: return "text, or a table with path or content";
    case SETTING_BOOL: return "true or false";
    case SETTING_U16: return "number, up to 65535";
    case SETTING_U32: return "number, up to 4294967295";
    case SETTING_U64:
    case SETTING_USIZE: return "number";
    case SETTING_MS: return "number of milliseconds";
    case SETTING_DURATION: return "duration (`500ms`, `5s`, `10m`, or a number of milliseconds)";
    case SETTING_BYTES: return "size (`64K`, `1MB`, or a number of bytes)";
    case SETTING_POOL_MODE: return "`transaction` or `session`";
    case SETTING_LIST: return "list of text";
    case SETTING_CIDR_LIST: return "list of networks, such as `10.0.0.0/8`";
    case SETTING_MAP: return "table of text";
    case SETTING_SECTION: return "table";
    }
    return "";
}

static const char *reload_words(enum setting_reload reload)
{
    switch (reload) {
    case RELOAD_LIVE: return "at once";
    case RELOAD_CLIENT: return "for new client connections";
    case RELOAD_BACKEND: return "for new connections to PostgreSQL";
    case RELOAD_POOL: return "by changing the pools concerned";
    case RELOAD_RESTART: return "after a restart";
    case RELOAD_NEVER: return "never: it has no effect";
    }
    return "";
}

static void write_setting(FILE *to, const struct setting *s)
{
    fprintf(to, "### `%s`\n\n%s\n\n- Type: %s", s->name, s->help, type_words(s));
    if (s->bounds != NULL)
        fprintf(to, "; %s", s->bounds);
    if (s->flags & SETTING_REQUIRED)
        fprintf(to, "\n- Required");
    else if (s->type != SETTING_SECTION)
        fprintf(to,
                s->fallback == NULL    ? "\n- Default: not set"
                : *s->fallback == '\0' ? "\n- Default: empty"
                                       : "\n- Default: `%s`",
                s->fallback);
    fprintf(to, "\n- A change takes effect on reload: %s\n\n", reload_words(s->reload));
}

static void write_aliases(FILE *to, const struct setting *s)
{
    for (size_t i = 0; i < setting_alias_count; i++)
        if (setting_aliases[i].section == s->section &&
            strcmp(setting_aliases[i].name, s->name) == 0)
            fprintf(to, "The old name `%s` is understood as well.\n\n", setting_aliases[i].alias);
}

static void write_chapter(FILE *to, const struct chapter *chapter)
{
    fprintf(to, "## `%s`\n\n%s\n\n", chapter->title, chapter->intro);
    for (size_t i = 0; i < setting_count; i++) {
        if (settings[i].section != chapter->section)
            continue;
        write_setting(to, &settings[i]);
        write_aliases(to, &settings[i]);
    }
}

char *reference_page(size_t page, const char **name)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    INVARIANT(page < REFERENCE_PAGES && to != NULL);
    fprintf(to, "# %s\n\n", pages[page].title);
    for (size_t i = 0; i < pages[page].count; i++)
        write_chapter(to, &pages[page].chapters[i]);
    INVARIANT(fclose(to) == 0);
    *name = pages[page].name;
    return text;
}
