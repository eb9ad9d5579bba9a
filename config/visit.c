/* visit.c: the configuration as rows of text. */
#include "config/arena.h"
#include "config/decode_value.h"
#include "config/settings.h"

#include <inttypes.h>

struct visit {
    struct arena arena;
    setting_visitor *to;
    void *context;
};

static const char *join(struct arena *arena, const struct string_list *list)
{
    const char *text = "";

    for (size_t i = 0; i < list->count; i++)
        text = arena_format(arena, "%s%s%s", text, i == 0 ? "" : ", ", list->items[i]);
    return text;
}

/* Unset is empty, as an operator would see nothing in the file. */
static const char *value_text(struct arena *arena, const struct setting *s, const void *base)
{
    const void *at = setting_at(s, base);

    if (setting_is_text(s)) {
        const char *text = *(char *const *)at;
        if (text == NULL || *text == '\0')
            return "";
        return s->flags & SETTING_SECRET ? "********" : text;
    }
    if (s->type == SETTING_BOOL)
        return *(const bool *)at ? "true" : "false";
    if (setting_is_list(s))
        return join(arena, at);
    uint64_t number = *(const uint64_t *)at;
    return number == SETTING_UNSET ? "" : arena_format(arena, "%" PRIu64, number);
}

static const char *fallback_text(struct arena *arena, const struct setting *s)
{
    /* Any section's struct, with only this field set. */
    union {
        struct general_config general;
        struct pool_config pool;
        struct web_config web;
        struct auth_query_config auth_query;
    } scratch;

    if (s->fallback == NULL || *s->fallback == '\0')
        return "-";
    memset(&scratch, 0, sizeof scratch);
    INVARIANT(s->offset + sizeof(struct string_list) <= sizeof scratch);
    setting_set_default(arena, s, &scratch);
    return value_text(arena, s, &scratch);
}

static void visit_map(struct visit *v, const struct setting *s, const char *key,
                      const struct pair_list *map)
{
    for (size_t i = 0; i < map->count; i++) {
        struct setting_row row = {.key = arena_format(&v->arena, "%s.%s", key, map->items[i].name),
                                  .value = map->items[i].value,
                                  .fallback = "-",
                                  .changeable = true,
                                  .help = s->help};
        v->to(v->context, &row);
    }
}

static void visit_section(struct visit *v, enum setting_section section, const void *base,
                          const char *prefix)
{
    for (size_t i = 0; i < setting_count; i++) {
        const struct setting *s = &settings[i];
        if (s->section != section || s->type == SETTING_SECTION)
            continue;
        const char *key = arena_format(&v->arena, "%s%s", prefix, s->name);
        if (s->type == SETTING_MAP) {
            visit_map(v, s, key, setting_at(s, base));
            continue;
        }
        struct setting_row row = {.key = key,
                                  .value = value_text(&v->arena, s, base),
                                  .fallback = fallback_text(&v->arena, s),
                                  .changeable = !(s->flags & SETTING_FIXED),
                                  .help = s->help};
        v->to(v->context, &row);
    }
}

static void visit_pool(struct visit *v, const struct pool_config *p)
{
    const char *prefix = arena_format(&v->arena, "pools.%s.", p->name);

    visit_section(v, SECTION_POOL, p, prefix);
    if (p->auth_query != NULL)
        visit_section(v, SECTION_AUTH_QUERY, p->auth_query,
                      arena_format(&v->arena, "%sauth_query.", prefix));
    for (size_t i = 0; i < p->user_count; i++)
        visit_section(v, SECTION_USER, &p->users[i],
                      arena_format(&v->arena, "%susers.%zu.", prefix, i));
}

void config_visit(const struct config *c, setting_visitor *visit, void *context)
{
    struct visit v = {.to = visit, .context = context};

    visit_section(&v, SECTION_GENERAL, &c->general, "");
    for (size_t i = 0; i < c->pool_count; i++)
        visit_pool(&v, &c->pools[i]);
    visit_section(&v, SECTION_WEB, &c->web, "web.");
    if (c->talos.given)
        visit_section(&v, SECTION_TALOS, &c->talos, "talos.");
    arena_free(&v.arena);
}
