#include "auth/hba_rules.h"

#include <stdio.h>
#include <stdlib.h>

struct hba *hba_new(bool strict)
{
    struct hba *h = calloc(1, sizeof(*h));

    if (h == NULL)
        return NULL;
    atomic_init(&h->references, 1);
    h->strict = strict;
    return h;
}

static void names_free(struct hba_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i].text);
        if (names->items[i].kind == NAME_REGEX)
            regfree(&names->items[i].regex);
    }
    free(names->items);
}

void hba_rule_free(struct hba_rule *rule)
{
    names_free(&rule->databases);
    names_free(&rule->users);
    free(rule->nets);
    free(rule->text);
}

int hba_add(struct hba *h, struct hba_rule *rule, struct failure *why)
{
    struct hba_rule *grown = realloc(h->rules, (h->count + 1) * sizeof(*grown));

    if (grown == NULL) {
        hba_rule_free(rule);
        return fail(why, "out of memory");
    }
    h->rules = grown;
    h->rules[h->count++] = *rule;
    return 0;
}

struct hba *hba_ref(struct hba *h)
{
    atomic_fetch_add_explicit(&h->references, 1, memory_order_relaxed);
    return h;
}

void hba_unref(struct hba *h)
{
    if (h == NULL || atomic_fetch_sub_explicit(&h->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < h->count; i++)
        hba_rule_free(&h->rules[i]);
    free(h->rules);
    free(h);
}

/* Copies the next logical line to `to`: a backslash at the end of a line joins the next one to it.
 * Returns the number of lines taken; 0 at the end. */
static unsigned take_line(const char **text, char *to)
{
    unsigned lines = 0;
    bool joined = true;

    while (joined && **text != '\0') {
        const char *newline = strchrnul(*text, '\n');
        size_t len = (size_t)(newline - *text);

        lines++;
        memcpy(to, *text, len);
        *text = *newline == '\0' ? newline : newline + 1;
        if (len > 0 && to[len - 1] == '\r')
            len--;
        joined = len > 0 && to[len - 1] == '\\';
        to += joined ? len - 1 : len;
    }
    *to = '\0';
    return lines;
}

static bool is_empty(const char *line)
{
    line += strspn(line, " \t\r\v\f");
    return *line == '\0' || *line == '#';
}

static int parse_lines(struct hba *h, const char *text, char *line, struct failure *why)
{
    unsigned number = 1;
    unsigned taken;

    for (; (taken = take_line(&text, line)) != 0; number += taken) {
        struct hba_rule rule;
        struct failure reason;

        if (is_empty(line))
            continue;

        char *start = line + strspn(line, " \t\r\v\f");
        if (hba_rule_parse(&rule, start, &reason) != 0 || hba_add(h, &rule, &reason) != 0)
            return fail(why, "pg_hba line %u: %.450s", number, reason.text);
    }
    return 0;
}

int hba_parse(struct hba **out, const char *text, bool strict, struct failure *why)
{
    char *line = malloc(strlen(text) + 1);
    struct hba *h = hba_new(strict);
    int result = -1;

    if (line == NULL || h == NULL)
        fail(why, "out of memory");
    else
        result = parse_lines(h, text, line, why);
    free(line);
    if (result == 0)
        *out = h;
    else
        hba_unref(h);
    return result;
}

static int add_text(struct hba *h, const char *text, struct failure *why)
{
    struct hba_rule rule;
    char line[128];

    snprintf(line, sizeof(line), "%s", text);
    return hba_rule_parse(&rule, line, why) == 0 ? hba_add(h, &rule, why) : -1;
}

/* The list says what md5 rules for everybody say: any secret may serve, nobody is trusted. */
int hba_from_list(struct hba **out, const char *const *cidrs, size_t count, struct failure *why)
{
    struct hba *h = hba_new(true);
    int result = -1;

    if (h == NULL)
        return fail(why, "out of memory");
    if (add_text(h, "local all all md5", why) != 0 ||
        (count == 0 && add_text(h, "host all all all md5", why) != 0))
        goto drop;
    for (size_t i = 0; i < count; i++) {
        struct hba_net net;
        bool bare;
        char line[128];

        if (hba_net_parse(&net, cidrs[i], &bare, why) != 0)
            goto drop;
        snprintf(line, sizeof(line), "host all all %s md5", cidrs[i]);
        if (add_text(h, line, why) != 0)
            goto drop;
    }
    *out = h;
    h = NULL;
    result = 0;

drop:
    hba_unref(h);
    return result;
}

char *hba_text(const struct hba *h)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < h->count; i++)
        fprintf(out, "%s\n", h->rules[i].text);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
