#include "actors/auth_query_result.h"

#include "proto/frame.h"

#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { NAMES_SHOWN = 200, TYPE_UNKNOWN = 705 };

void lookup_result_begin(struct lookup_result *r)
{
    *r = (struct lookup_result){.columns = -1, .secret_at = -1, .parameters_at = -1};
}

void lookup_result_free(struct lookup_result *r)
{
    if (r->secret != NULL)
        OPENSSL_cleanse(r->secret, strlen(r->secret));
    free(r->secret);
    free(r->parameters);
    r->secret = r->parameters = NULL;
}

static bool text_like(uint32_t type)
{
    static const uint32_t types[] = {25 /* text */, 1043 /* varchar */, 1042 /* bpchar */,
                                     19 /* name */, TYPE_UNKNOWN};

    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (types[i] == type)
            return true;
    }
    return false;
}

/* --- columns --- */

/* How good a name is for the secret; the least is best. */
enum { NOT_A_SECRET = 4 };

static int rank_of(struct bytes name)
{
    static const char *const names[] = {"passwd", "password"};

    for (int i = 0; i < 2; i++) {
        if (bytes_equal(name, bytes_of(names[i])))
            return 2 * i;
        if (name.len == strlen(names[i]) &&
            strncasecmp((const char *)name.at, names[i], name.len) == 0)
            return 2 * i + 1;
    }
    return NOT_A_SECRET;
}

struct naming {
    char names[NAMES_SHOWN];
    size_t len;
    int best;
    bool single_readable;
};

static void look_at_column(struct lookup_result *r, struct naming *n, int at, struct bytes name,
                           uint32_t type)
{
    int rank = rank_of(name);

    if (text_like(type) && rank < n->best) {
        n->best = rank;
        r->secret_at = at;
    }
    n->single_readable = text_like(type);
    if (bytes_equal(name, bytes_of("startup_parameters"))) {
        r->parameters_at = at;
        r->parameters_type = type;
    }
    int wrote = snprintf(n->names + n->len, sizeof n->names - n->len, "%s%.*s", at == 0 ? "" : ", ",
                         (int)name.len, (const char *)name.at);
    n->len = MIN(n->len + (size_t)MAX(wrote, 0), sizeof n->names - 1);
}

static int choose_secret(struct lookup_result *r, const struct naming *n, const char *user)
{
    if (r->secret_at >= 0)
        return 0;
    if (r->columns == 1 && !n->single_readable)
        return fail(&r->problem,
                    "failed to read password from single-column result: the column is not text");
    if (r->columns == 1) {
        r->secret_at = 0;
        r->parameters_at = -1;
        return 0;
    }
    return fail(&r->problem,
                "cannot find password column for user '%s': expected column named 'passwd' or "
                "'password', or a single-column result; got columns: [%s]",
                user, n->names);
}

int lookup_result_columns(struct lookup_result *r, const char *user, const uint8_t *body,
                          size_t len)
{
    struct cursor c = cursor_of(body, len);
    struct naming n = {.best = NOT_A_SECRET};

    r->columns = cursor_u16(&c);
    for (int i = 0; i < r->columns && !c.bad; i++) {
        struct bytes name = cursor_string(&c);

        cursor_bytes(&c, 6); /* of which table, which attribute */
        uint32_t type = cursor_u32(&c);
        cursor_bytes(&c, 8); /* size, modifier, format */
        if (!c.bad)
            look_at_column(r, &n, i, name, type);
    }
    if (c.bad)
        return fail(&r->problem, "the server described the result in a way that does not parse");
    return choose_secret(r, &n, user);
}

/* --- rows --- */

static char *text_of(struct bytes cell)
{
    char *text = malloc(cell.len + 1);

    INVARIANT(text != NULL);
    if (cell.len > 0)
        memcpy(text, cell.at, cell.len);
    text[cell.len] = '\0';
    return text;
}

int lookup_result_row(struct lookup_result *r, const uint8_t *body, size_t len)
{
    struct cursor c = cursor_of(body, len);
    int cells = cursor_u16(&c);

    if (r->rows++ > 0) /* one too many: only their number counts */
        return 0;
    for (int i = 0; i < cells && !c.bad; i++) {
        uint32_t size = cursor_u32(&c);
        bool null = size == UINT32_MAX;
        struct bytes cell = null ? (struct bytes){NULL, 0} : cursor_bytes(&c, size);

        if (c.bad)
            break;
        if (i == r->secret_at) {
            r->secret_null = null;
            r->secret = text_of(cell);
        } else if (i == r->parameters_at && !null) {
            r->parameters = text_of(cell);
            r->parameters_len = cell.len;
        }
    }
    if (c.bad || r->secret == NULL)
        return fail(&r->problem, "the server sent a row that does not parse");
    return 0;
}

enum lookup_outcome lookup_result_end(struct lookup_result *r, const char *user)
{
    if (r->columns < 0) {
        fail(&r->problem, "the query returns no rows by its kind");
        return LOOKUP_FAILED;
    }
    if (r->rows > 1) {
        fail(&r->problem, "query returned %llu rows for user '%s', expected 0 or 1",
             (unsigned long long)r->rows, user);
        return LOOKUP_FAILED;
    }
    return r->rows == 1 && r->secret[0] != '\0' ? LOOKUP_FOUND : LOOKUP_UNKNOWN;
}
