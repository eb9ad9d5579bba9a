/* auth_query_result.h: what the answer to the query means. Pure.
 *
 * One row with a column passwd or password, or with a single column, is a user and its secret; no
 * row, or a secret that is NULL or empty, is no such user; anything else is a mistake in the query.
 * A column startup_parameters may hold a JSON object of settings for the user's connections.
 */
#ifndef ACTORS_AUTH_QUERY_RESULT_H
#define ACTORS_AUTH_QUERY_RESULT_H

#include "config/arena.h"
#include "config/config.h"

enum lookup_outcome {
    LOOKUP_FOUND,
    LOOKUP_UNKNOWN,
    LOOKUP_FAILED, /* by the query, or the connection */
    LOOKUP_LIMITED /* not asked again so soon */
};

struct lookup_result {
    int columns; /* -1: not described */
    int secret_at;
    int parameters_at; /* -1: none */
    uint32_t parameters_type;
    uint64_t rows;
    bool secret_null;
    char *secret;     /* malloc'ed */
    char *parameters; /* malloc'ed; NULL: none */
    size_t parameters_len;
    struct failure problem;
};

void lookup_result_begin(struct lookup_result *r);
/* Bodies of RowDescription and DataRow. 0, or -1 with the problem: the message does not parse, or
 * the secret is not to be found among these columns. */
MUST_CHECK int lookup_result_columns(struct lookup_result *r, const char *user, const uint8_t *body,
                                     size_t len);
MUST_CHECK int lookup_result_row(struct lookup_result *r, const uint8_t *body, size_t len);
/* FOUND, UNKNOWN, or FAILED with the problem. */
enum lookup_outcome lookup_result_end(struct lookup_result *r, const char *user);
/* Wipes the secret. */
void lookup_result_free(struct lookup_result *r);

/* Why settings of a row are not, or not all, used. */
enum overlay_problem {
    OVERLAY_GOOD,
    OVERLAY_BAD_TYPE,
    OVERLAY_OVERSIZE,
    OVERLAY_INVALID_JSON,
    OVERLAY_INVALID_SHAPE,
    OVERLAY_INVALID_ENTRY, /* single ones were left out */
};
const char *overlay_problem_name(enum overlay_problem problem);
/* Reads startup_parameters into *out: canonical names, sorted, in the arena; empty unless GOOD or
 * INVALID_ENTRY. `type` is the column's; the text ends with a NUL. */
enum overlay_problem overlay_read(struct arena *arena, uint32_t type, const char *text, size_t len,
                                  struct pair_list *out);

#endif
