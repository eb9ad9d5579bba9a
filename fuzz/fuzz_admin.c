/* Any text as commands: each call takes something off or says that there is no more; commands lie
 * in the text, one behind the other; words fit their room; and a command, parsed alone, says the
 * same again. */
#include "actors/admin.h"

#include <stdlib.h>

static void check_words(const struct admin_statement *s, const char *scratch, size_t room)
{
    int kept = MIN(s->count, (int)ADMIN_WORDS);

    for (int i = 0; i < kept; i++) {
        INVARIANT(s->words[i] >= scratch && s->words[i] < scratch + room);
        INVARIANT(s->words[i] + strlen(s->words[i]) < scratch + room);
    }
}

static void check_again(const struct admin_statement *s)
{
    struct admin_statement again;
    struct bytes rest = s->text;
    char *scratch = malloc(admin_scratch_bytes(rest.len));

    INVARIANT(scratch != NULL);
    if (s->count > 0) {
        INVARIANT(admin_parse(&rest, &again, scratch));
        INVARIANT(again.count == s->count && rest.len == 0);
        for (int i = 0; i < MIN(s->count, (int)ADMIN_WORDS); i++)
            INVARIANT(strcmp(again.words[i], s->words[i]) == 0);
    }
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct admin_statement s;
    struct bytes rest = {data, len};
    char *scratch = malloc(admin_scratch_bytes(len));

    INVARIANT(scratch != NULL);
    for (struct bytes before = rest; admin_parse(&rest, &s, scratch); before = rest) {
        INVARIANT(rest.len < before.len && rest.at + rest.len == data + len);
        INVARIANT(s.text.at >= before.at && s.text.at + s.text.len <= rest.at);
        check_words(&s, scratch, admin_scratch_bytes(len));
        struct bytes value = admin_set_value(s.value);
        INVARIANT(value.len <= s.value.len);
        check_again(&s);
    }
    free(scratch);
    return 0;
}
