/* From lines to rules. A line that cannot be used is an error: a rule that is silently dropped, or
 * silently means everybody, opens doors. */
#include "auth/hba_rules.h"

#include <stdlib.h>
#include <strings.h>

static const struct {
    const char *name;
    enum hba_transport transport;
} transports[] = {
    {"local", ON_LOCAL},         {"host", ON_HOST},        {"hostssl", ON_HOSTSSL},
    {"hostnossl", ON_HOSTNOSSL}, {"hostgssenc", ON_NEVER}, /* no GSS encryption here */
    {"hostnogssenc", ON_HOST},
};

static const struct {
    const char *name;
    enum hba_rule_method method;
    const char *options; /* names that may follow, each between spaces */
} methods[] = {
    {"trust", RULE_TRUST, ""},
    {"reject", RULE_REJECT, ""},
    {"md5", RULE_MD5, ""},
    {"scram-sha-256", RULE_SCRAM, ""},
    {"scram_sha_256", RULE_SCRAM, ""},
    {"scramsha256", RULE_SCRAM, ""},
    {"password", RULE_PASSWORD, ""},
    {"peer", RULE_PEER, " map "},
    {"cert", RULE_CERT, " map clientcert clientname "},
    {"ldap", RULE_LDAP,
     " ldapserver ldapport ldapscheme ldaptls ldapprefix ldapsuffix ldapbasedn ldapbinddn"
     " ldapbindpasswd ldapsearchattribute ldapsearchfilter ldapurl "},
    {"pam", RULE_PAM, " pamservice pam_use_hostname "},
    {"jwt", RULE_JWT, ""},
};

static bool is_keyword(const struct hba_token *t, const char *word)
{
    return !t->quoted && strcasecmp(t->text, word) == 0;
}

static int parse_regex(struct hba_name *out, const char *pattern, struct failure *why)
{
    char reason[128];
    int error = regcomp(&out->regex, pattern, REG_EXTENDED | REG_NOSUB);

    if (error != 0) {
        regerror(error, &out->regex, reason, sizeof(reason));
        return fail(why, "invalid regular expression '%.100s': %s", pattern, reason);
    }
    out->kind = NAME_REGEX;
    return 0;
}

static int parse_name(struct hba_name *out, const struct hba_token *t, bool database,
                      struct failure *why)
{
    if (is_keyword(t, "all")) {
        out->kind = NAME_ALL;
        return 0;
    }
    if (t->text[0] == '/')
        return parse_regex(out, t->text + 1, why);
    if (!t->quoted && t->text[0] == '@')
        return fail(why, "file '%.100s': lists in files are not supported", t->text + 1);
    if (!t->quoted && t->text[0] == '+')
        return fail(why, "'%.100s': membership in roles is not known here", t->text);
    if (database && (is_keyword(t, "samerole") || is_keyword(t, "samegroup")))
        return fail(why, "'%s': membership in roles is not known here", t->text);
    if (database && is_keyword(t, "sameuser")) {
        out->kind = NAME_SAMEUSER;
        return 0;
    }
    if (database && is_keyword(t, "replication")) {
        out->kind = NAME_NEVER; /* ordinary sessions only */
        return 0;
    }
    out->text = strdup(t->text);
    if (out->text == NULL)
        return fail(why, "out of memory");
    out->kind = NAME_EXACT;
    return 0;
}

static int parse_names(struct hba_names *out, const struct hba_field *field, bool database,
                       struct failure *why)
{
    out->items = calloc(field->count, sizeof(*out->items));
    if (out->items == NULL)
        return fail(why, "out of memory");
    for (size_t i = 0; i < field->count; i++) {
        if (parse_name(&out->items[i], &field->items[i], database, why) != 0)
            return -1;
        out->count++; /* only now is there something to free */
    }
    return 0;
}

/* A field that must be there; one item, unless it is a list of names. */
static int need_field(char **at, struct hba_field *field, bool list, const char *what,
                      struct failure *why)
{
    int found = hba_next_field(at, field, why);

    if (found < 0)
        return -1;
    if (found == 0)
        return fail(why, "%s expected", what);
    if (!list && field->count != 1)
        return fail(why, "only one %s is possible", what);
    return 0;
}

static int parse_transport(struct hba_rule *rule, const char *word, struct failure *why)
{
    for (size_t i = 0; i < COUNT_OF(transports); i++)
        if (strcasecmp(word, transports[i].name) == 0) {
            rule->transport = transports[i].transport;
            return 0;
        }
    if (strncmp(word, "include", strlen("include")) == 0)
        return fail(why, "'%.100s' is not supported", word);
    return fail(why, "unknown connection type '%.100s'", word);
}

/* Leaves the field behind the address, which may be a mask, in *field. */
static int parse_address(struct hba_rule *rule, char **at, struct hba_field *field,
                         struct failure *why)
{
    struct hba_net net;
    bool bare = false;

    if (need_field(at, field, false, "address", why) != 0)
        return -1;

    const struct hba_token *t = &field->items[0];
    if (is_keyword(t, "all")) {
        rule->any_address = true;
    } else if (is_keyword(t, "samehost") || is_keyword(t, "samenet")) {
        if (hba_nets_of_machine(rule, is_keyword(t, "samenet"), why) != 0)
            return -1;
    } else if (hba_net_parse(&net, t->text, &bare, why) != 0) {
        return -1;
    }

    bool has_net = !rule->any_address && rule->net_count == 0 && !is_keyword(t, "samehost") &&
                   !is_keyword(t, "samenet");
    if (need_field(at, field, false, "method", why) != 0)
        return -1;
    if (bare) {
        int mask = hba_net_mask(&net, field->items[0].text, why);

        if (mask < 0 || (mask == 0 && need_field(at, field, false, "method", why) != 0))
            return -1;
    }
    return has_net ? hba_rule_add_net(rule, &net, why) : 0;
}

static bool option_known(const char *known, const char *option, size_t len)
{
    for (const char *p = known; (p = strchr(p, ' ')) != NULL; p++)
        if (strncmp(p + 1, option, len) == 0 && p[1 + len] == ' ')
            return true;
    return false;
}

/* Options bind tighter than methods: one that is not honoured must not be passed over. */
static int parse_options(char **at, struct hba_field *field, const char *known, struct failure *why)
{
    for (;;) {
        int found = hba_next_field(at, field, why);

        if (found <= 0)
            return found;
        for (size_t i = 0; i < field->count; i++) {
            const char *option = field->items[i].text;
            const char *equals = strchr(option, '=');

            /* The values of LDAP options contain commas: what follows one has no name. */
            if (equals == NULL && i > 0)
                continue;
            if (equals == NULL || equals == option)
                return fail(why, "option '%.100s' is not of the form name=value", option);
            if (i == 0 && !option_known(known, option, (size_t)(equals - option)))
                return fail(why, "option '%.100s' is not supported with this method", option);
        }
    }
}

static int parse_method(struct hba_rule *rule, char **at, struct hba_field *field,
                        struct failure *why)
{
    const char *word = field->items[0].text;

    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        if (strcasecmp(word, methods[i].name) != 0)
            continue;
        rule->method = methods[i].method;
        if (rule->method == RULE_PEER && rule->transport != ON_LOCAL)
            return fail(why, "method 'peer' is for local connections only");
        if (rule->method == RULE_CERT && rule->transport != ON_HOSTSSL)
            return fail(why, "method 'cert' is for hostssl connections only");
        return parse_options(at, field, methods[i].options, why);
    }
    return fail(why, "unknown method '%.100s'", word);
}

static int parse_fields(struct hba_rule *rule, char **at, struct hba_field *field,
                        struct failure *why)
{
    if (need_field(at, field, false, "connection type", why) != 0 ||
        parse_transport(rule, field->items[0].text, why) != 0 ||
        need_field(at, field, true, "database", why) != 0 ||
        parse_names(&rule->databases, field, true, why) != 0 ||
        need_field(at, field, true, "user", why) != 0 ||
        parse_names(&rule->users, field, false, why) != 0)
        return -1;
    if (rule->transport == ON_LOCAL) {
        if (need_field(at, field, false, "method", why) != 0)
            return -1;
    } else if (parse_address(rule, at, field, why) != 0) {
        return -1;
    }
    return parse_method(rule, at, field, why);
}

/* The rule as written, without the blanks around it and the comment behind it. */
static char *rule_text(const char *line, size_t len)
{
    while (len > 0 && strchr(" \t\r\v\f", line[len - 1]) != NULL)
        len--;
    return strndup(line, len);
}

int hba_rule_parse(struct hba_rule *out, char *line, struct failure *why)
{
    struct hba_field *field = malloc(sizeof(*field));
    struct hba_rule rule = {0};
    char *written = strdup(line);
    char *at = line;
    int result = -1;

    if (field == NULL || written == NULL) {
        fail(why, "out of memory");
    } else if (parse_fields(&rule, &at, field, why) == 0) {
        rule.text = rule_text(written, (size_t)(at - line));
        result = rule.text == NULL ? fail(why, "out of memory") : 0;
    }
    free(field);
    free(written);
    if (result != 0)
        hba_rule_free(&rule);
    else
        *out = rule;
    return result;
}
