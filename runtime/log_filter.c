#include "runtime/log_internal.h"

#include <stdio.h>
#include <strings.h>

static const char *const level_names[] = {"off", "error", "warn", "info", "debug", "trace"};

static struct bytes trimmed(const char *at, size_t len)
{
    while (len > 0 && (*at == ' ' || *at == '\t')) {
        at++;
        len--;
    }
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return (struct bytes){(const uint8_t *)at, len};
}

static bool word_is(struct bytes word, const char *name)
{
    return word.len == strlen(name) && strncasecmp((const char *)word.at, name, word.len) == 0;
}

static int parse_level(enum log_level *out, struct bytes word, struct failure *why)
{
    for (size_t i = 0; i < COUNT_OF(level_names); i++) {
        if (word_is(word, level_names[i])) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    if (word_is(word, "warning")) {
        *out = LOG_WARN;
        return 0;
    }
    return fail(why, "Invalid log level '%.*s'. Valid: error, warn, info, debug, trace, off",
                (int)MIN(word.len, 256u), (const char *)word.at);
}

/* Longest first, so that the first match decides. A module named twice keeps the last level. */
static int add_rule(struct log_filter *f, struct bytes module, enum log_level level,
                    struct failure *why)
{
    size_t at = 0;

    for (size_t i = 0; i < f->count; i++) {
        if (bytes_equal(bytes_of(f->rules[i].module), module)) {
            f->rules[i].level = level;
            return 0;
        }
    }
    if (f->count == LOG_RULES_MAX)
        return fail(why, "Too many modules: at most %d", LOG_RULES_MAX);
    while (at < f->count && strlen(f->rules[at].module) >= module.len)
        at++;
    memmove(&f->rules[at + 1], &f->rules[at], (f->count - at) * sizeof f->rules[0]);
    memcpy(f->rules[at].module, module.at, module.len);
    f->rules[at].module[module.len] = '\0';
    f->rules[at].level = level;
    f->count++;
    return 0;
}

static int parse_entry(struct log_filter *f, struct bytes entry, bool *have_base,
                       struct failure *why)
{
    const uint8_t *equals = memchr(entry.at, '=', entry.len);
    enum log_level level;

    if (equals == NULL) {
        if (parse_level(&level, entry, why) != 0)
            return -1;
        if (*have_base)
            return fail(why, "Multiple base levels specified");
        *have_base = true;
        f->base = level;
        return 0;
    }
    size_t module_len = (size_t)(equals - entry.at);
    struct bytes module = trimmed((const char *)entry.at, module_len);
    struct bytes word = trimmed((const char *)equals + 1, entry.len - module_len - 1);
    if (module.len > LOG_MODULE_MAX)
        return fail(why, "Module path too long: %.64s", (const char *)module.at);
    if (parse_level(&level, word, why) != 0)
        return -1;
    return add_rule(f, module, level, why);
}

int log_filter_parse(struct log_filter *out, const char *spec, struct failure *why)
{
    bool have_base = false;

    out->base = LOG_INFO;
    out->count = 0;
    for (const char *at = spec;;) {
        size_t len = strcspn(at, ",");
        struct bytes entry = trimmed(at, len);

        if (entry.len > 0 && parse_entry(out, entry, &have_base, why) != 0)
            return -1;
        if (at[len] == '\0')
            return 0;
        at += len + 1;
    }
}

enum log_level log_filter_level(const struct log_filter *f, const char *module)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strncmp(module, f->rules[i].module, strlen(f->rules[i].module)) == 0)
            return f->rules[i].level;
    }
    return f->base;
}

void log_filter_print(const struct log_filter *f, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", level_names[f->base]);

    for (size_t i = 0; i < f->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, ",%s=%s", f->rules[i].module,
                                 level_names[f->rules[i].level]);
}
