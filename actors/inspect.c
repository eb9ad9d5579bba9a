#include "actors/inspect_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { FILE_LIMIT = 1 << 30 };

int inspect_print(FILE *out, const uint8_t *at, size_t len, bool json, struct failure *why)
{
    msgpack_unpacked unpacked;
    size_t used = 0;

    if (inspect_check(at, len, why) != 0)
        return -1;
    msgpack_unpacked_init(&unpacked);
    msgpack_unpack_return result = msgpack_unpack_next(&unpacked, (const char *)at, len, &used);
    if (result != MSGPACK_UNPACK_SUCCESS) {
        msgpack_unpacked_destroy(&unpacked);
        return fail(why, "the document cannot be unpacked: %s",
                    result == MSGPACK_UNPACK_NOMEM_ERROR ? "out of memory" : "malformed");
    }
    if (json) {
        inspect_emit_json(out, &unpacked.data);
    } else {
        inspect_emit_summary(out, &unpacked.data);
        inspect_emit_yaml(out, &unpacked.data);
    }
    msgpack_unpacked_destroy(&unpacked);
    return 0;
}

/* Grows as it reads: the input may be a pipe. */
static int read_all(FILE *in, uint8_t **out, size_t *out_len, struct failure *why)
{
    size_t size = 64 << 10;
    size_t len = 0;
    uint8_t *at = malloc(size);

    while (at != NULL) {
        len += fread(at + len, 1, size - len, in);
        if (len < size)
            break;
        if (size >= FILE_LIMIT) {
            free(at);
            return fail(why, "larger than %d bytes", FILE_LIMIT);
        }
        size *= 2;
        uint8_t *grown = realloc(at, size);
        if (grown == NULL)
            free(at);
        at = grown;
    }
    if (at == NULL)
        return fail(why, "out of memory");
    if (ferror(in)) {
        free(at);
        return fail(why, "%s", strerror(errno));
    }
    *out = at;
    *out_len = len;
    return 0;
}

int inspect_file(const char *path, bool json)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "rbe");
    struct failure why;
    uint8_t *at = NULL;
    size_t len = 0;
    int result;

    if (in == NULL) {
        fprintf(stderr, "Error: %s: %s\n", path, strerror(errno));
        return 1;
    }
    result = read_all(in, &at, &len, &why);
    if (!standard)
        fclose(in);
    if (result == 0)
        result = inspect_print(stdout, at, len, json, &why);
    free(at);
    if (result != 0)
        fprintf(stderr, "Error: %s: %s\n", path, why.text);
    return result == 0 ? 0 : 1;
}
