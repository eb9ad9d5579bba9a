#include "actors/snapshot_link.h"

#include "actors/client_link.h"

#include <stdlib.h>

struct snapshot_text {
    char *text;
    size_t len;
};

/* One row with one cell; its text is copied. */
static int take_row(void *context, const struct bytes *cells, size_t count, struct failure *why)
{
    struct snapshot_text *out = context;

    if (count != 1 || cells[0].at == NULL || out->text != NULL)
        return fail(why, "the pooler's answer is not a snapshot");
    out->text = malloc(MAX(cells[0].len, (size_t)1));
    if (out->text == NULL)
        return fail(why, "out of memory");
    memcpy(out->text, cells[0].at, cells[0].len);
    out->len = cells[0].len;
    return 0;
}

int snapshot_fetch(const struct snapshot_target *target, char **text, size_t *len,
                   struct failure *why)
{
    const struct link_target link_target = {.host = target->host,
                                            .port = target->port,
                                            .user = target->user,
                                            .password = target->password,
                                            .database = "pgdoorman",
                                            .application = "pg_doorman snapshot",
                                            .peer = "the pooler",
                                            .refusal = "the pooler answers: "};
    struct snapshot_text answer = {0};
    struct client_link *link;

    *text = NULL;
    if (client_link_open(&link, &link_target, why) != 0)
        return -1;
    int result = client_link_query(link, "SNAPSHOT", take_row, &answer);
    client_link_close(link);
    if (result == 0 && answer.text == NULL)
        result = fail(why, "the pooler's answer is empty");
    if (result != 0) {
        free(answer.text);
        return -1;
    }
    *text = answer.text;
    *len = answer.len;
    return 0;
}
