/* Any bytes as SQL: the scanner stays inside, and what is put behind a text that ends is found. */
#include "proto/scan.h"

#include <stdlib.h>

static struct scan_effect with(const uint8_t *data, size_t len, const char *before,
                               const char *behind)
{
    size_t head = strlen(before);
    size_t tail = strlen(behind);
    uint8_t *text = malloc(head + len + tail);

    INVARIANT(text != NULL);
    memcpy(text, before, head);
    if (len > 0)
        memcpy(text + head, data, len);
    memcpy(text + head + len, behind, tail);
    struct scan_effect e = scan_sql(text, head + len + tail);
    free(text);
    return e;
}

static void check(struct scan_effect e)
{
    INVARIANT((e.leaves & ~(SCAN_KINDS | SCAN_LASTS | SCAN_COPIES)) == 0);
    INVARIANT((e.clears & ~(SCAN_KINDS | SCAN_RESET_ONE)) == 0);
    INVARIANT((e.seen & ~SCAN_KINDS) == 0);
    INVARIANT((e.clears & SCAN_RESET_ONE) == 0 || (e.setting != 0 && e.setting != SCAN_MANY));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct scan_effect plain = with(data, len, "", "");
    struct scan_effect start = scan_sql_start(data, len);

    check(plain);
    /* What is not seen may be a COPY. */
    INVARIANT(start.leaves == (plain.leaves | SCAN_COPIES) && start.clears == 0 && start.seen == 0);
    /* A function that keeps state is found in front of anything, and what it leaves is not taken
     * for cleared by what follows. */
    struct scan_effect locked = with(data, len, "SELECT pg_advisory_lock(1);", "");
    check(locked);
    INVARIANT((locked.leaves & SCAN_ADVISORY) && !(locked.clears & SCAN_ADVISORY));
    /* A statement in front is seen whatever follows. */
    INVARIANT(with(data, len, "LISTEN x;", "").leaves & SCAN_LISTEN);
    /* Behind a text whose ends are beyond doubt, too. */
    struct scan_effect doubt = with(data, len, "SET LOCAL a = 1;", "");
    if (doubt.seen & SCAN_SET)
        INVARIANT(with(data, len, "", "\n;LISTEN x").leaves & SCAN_LISTEN);
    return 0;
}
