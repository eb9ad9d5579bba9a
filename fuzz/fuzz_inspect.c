/* Whatever a snapshot file holds: what passes the check is unpacked and printed, in both forms,
 * with output in proportion to the input; and no part of a document is a document. */
#include "actors/inspect_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct failure why;
    char *text = NULL;
    size_t text_len = 0;

    if (len > 1 << 16)
        return 0;
    bool good = inspect_check(data, len, &why) == 0;
    INVARIANT(!good || len == 1 || inspect_check(data, len - 1, &why) != 0);
    for (int json = 0; json <= 1; json++) {
        FILE *out = open_memstream(&text, &text_len);

        INVARIANT((inspect_print(out, data, len, json, &why) == 0) == good);
        fclose(out);
        INVARIANT(text_len <= len * 100 + 32768);
        free(text);
    }
    return 0;
}
