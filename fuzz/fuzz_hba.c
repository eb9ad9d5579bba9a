/* Any text as rules: who is stopped at the first gate is denied at the second; without the word
 * trust nobody is trusted; the rules as text parse again and answer the same. */
#include "auth/hba.h"

#include <netinet/in.h>
#include <stdlib.h>

static const struct hba_peer *peers(size_t *count)
{
    static struct hba_peer list[5];
    struct sockaddr_in *v4 = (struct sockaddr_in *)&list[1].address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&list[2].address;

    list[0].local = true;
    v4->sin_family = AF_INET;
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6->sin6_family = AF_INET6;
    v6->sin6_addr = in6addr_loopback;
    list[3] = list[1];
    list[3].tls = true;
    *count = COUNT_OF(list); /* the last one has no address at all */
    return list;
}

static void check_answers(const struct hba *a, const struct hba *b, bool may_trust)
{
    static const char *const names[] = {"all", "app", "pgdoorman", ""};
    size_t count;
    const struct hba_peer *list = peers(&count);

    for (size_t i = 0; i < count * COUNT_OF(names) * COUNT_OF(names); i++) {
        const struct hba_peer *peer = &list[i % count];
        const char *database = names[i / count % COUNT_OF(names)];
        const char *user = names[i / count / COUNT_OF(names)];
        bool enters = hba_may_enter(a, peer, database, user);
        enum hba_method console = hba_admin_method(a, peer, database, user, "app");

        INVARIANT(enters == hba_may_enter(b, peer, database, user));
        INVARIANT(console != HBA_TRUST || (may_trust && strcmp(user, "app") == 0));
        for (int kind = SECRET_EMPTY; kind <= SECRET_JWT; kind++) {
            enum hba_method m = hba_method(a, peer, database, user, (enum secret_kind)kind);

            INVARIANT(m == hba_method(b, peer, database, user, (enum secret_kind)kind));
            INVARIANT(enters || m == HBA_DENY);
            INVARIANT(may_trust || m != HBA_TRUST);
        }
    }
}

static void check_rules(const char *text, bool strict)
{
    struct failure why;
    struct hba *h;
    struct hba *again;

    if (hba_parse(&h, text, strict, &why) != 0) {
        INVARIANT(strncmp(why.text, "pg_hba line ", 12) == 0);
        return;
    }

    char *written = hba_text(h);
    INVARIANT(written != NULL && hba_parse(&again, written, strict, &why) == 0);
    char *rewritten = hba_text(again);
    INVARIANT(rewritten != NULL && strcmp(written, rewritten) == 0);
    /* the word may be written with quotes in it */
    check_answers(h, again,
                  strcasestr(text, "trust") != NULL || strchr(text, '"') != NULL ||
                      strchr(text, '\\') != NULL);
    free(written);
    free(rewritten);
    hba_unref(again);
    hba_unref(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    /* The library's expressions take any time and memory with repetitions: operators' own risk. */
    if (len > 1024 || memchr(data, '{', len) || memchr(data, '*', len) || memchr(data, '+', len))
        return 0;

    char *text = strndup((const char *)data, len);
    if (text == NULL)
        return 0;
    check_rules(text, true);
    check_rules(text, false);
    free(text);
    return 0;
}
