#include "auth/hba.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

/* "unix", or an address, with "+tls" behind it for TLS. */
static struct hba_peer peer_of(const char *text)
{
    struct hba_peer peer = {.local = strcmp(text, "unix") == 0, .tls = strstr(text, "+tls")};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&peer.address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer.address;
    char ip[64];

    snprintf(ip, sizeof(ip), "%.*s", (int)strcspn(text, "+"), text);
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1)
        v4->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1)
        v6->sin6_family = AF_INET6;
    return peer;
}

static struct hba *parsed(const char *rules, bool strict)
{
    struct failure why = {""};
    struct hba *h = NULL;

    if (hba_parse(&h, rules, strict, &why) != 0)
        unit_fail(__FILE__, __LINE__, "%s\n%s", why.text, rules);
    return h;
}

enum { OUT = 100 }; /* stopped at gate 1 */

static int answer(const struct hba *h, const char *from, const char *database, const char *user,
                  enum secret_kind secret)
{
    struct hba_peer peer = peer_of(from);

    if (!hba_may_enter(h, &peer, database, user))
        return OUT;
    return (int)hba_method(h, &peer, database, user, secret);
}

struct row {
    const char *rules;
    const char *from;
    int want[5]; /* by enum secret_kind: empty, plain, MD5, SCRAM, JWT */
};

static void check_rows(const struct row *rows, size_t count, bool strict)
{
    for (size_t i = 0; i < count; i++) {
        struct hba *h = parsed(rows[i].rules, strict);

        for (int kind = SECRET_EMPTY; h != NULL && kind <= SECRET_JWT; kind++)
            EQ(answer(h, rows[i].from, "db", "alice", (enum secret_kind)kind), rows[i].want[kind],
               "from %s, secret %d:\n%s", rows[i].from, kind, rows[i].rules);
        hba_unref(h);
    }
}

#define NET "host all all 10.0.0.0/8 "
#define ANY "host all all 0.0.0.0/0 "
#define T   HBA_TRUST
#define M   HBA_MD5
#define S   HBA_SCRAM
#define C   HBA_CLEARTEXT
#define D   HBA_DENY
#define F9  HBA_UNUSABLE

TEST(strict_takes_the_first_rule_that_can_serve)
{
    static const struct row rows[] = {
        {"", "10.1.1.1", {OUT, OUT, OUT, OUT, OUT}},
        {ANY "reject", "10.1.1.1", {OUT, OUT, OUT, OUT, OUT}},
        {ANY "trust", "10.1.1.1", {T, T, T, T, C}},
        {ANY "md5", "10.1.1.1", {F9, M, M, S, C}},
        {ANY "scram-sha-256", "10.1.1.1", {F9, S, D, S, C}},
        {ANY "password", "10.1.1.1", {F9, C, C, C, C}},
        {ANY "jwt", "10.1.1.1", {D, D, D, D, C}},
        {ANY "pam", "10.1.1.1", {F9, D, D, D, D}},
        {ANY "ldap ldapserver=x", "10.1.1.1", {D, D, D, D, D}},
        {"local all all peer map=m", "unix", {D, D, D, D, D}},
        {"hostssl all all all cert", "10.1.1.1+tls", {D, D, D, D, D}},
        /* mixed secrets */
        {NET "scram-sha-256\n" ANY "md5", "10.1.1.1", {F9, S, M, S, C}},
        {NET "scram-sha-256\n" ANY "password", "10.1.1.1", {F9, S, C, S, C}},
        {NET "md5\n" ANY "reject", "10.1.1.1", {F9, M, M, S, C}},
        /* a secret of the wrong kind opens nothing */
        {NET "scram-sha-256\n" ANY "trust", "10.1.1.1", {F9, S, D, S, C}},
        {NET "scram-sha-256\n" ANY "reject\n" ANY "md5", "10.1.1.1", {F9, S, D, S, C}},
        {NET "scram-sha-256\n" ANY "pam\n" ANY "md5", "10.1.1.1", {F9, S, D, S, C}},
        {NET "trust\n" ANY "reject", "10.1.1.1", {T, T, T, T, C}},
        {NET "trust\n" ANY "md5", "11.1.1.1", {F9, M, M, S, C}},
    };

    check_rows(rows, COUNT_OF(rows), true);
}

TEST(two_probes_evaluate_as_before)
{
    static const struct row rows[] = {
        {"", "10.1.1.1", {OUT, OUT, OUT, OUT, OUT}},
        {ANY "reject", "10.1.1.1", {OUT, OUT, OUT, OUT, OUT}},
        {ANY "password", "10.1.1.1", {OUT, OUT, OUT, OUT, OUT}},
        {ANY "trust", "10.1.1.1", {T, T, T, T, C}},
        {ANY "md5", "10.1.1.1", {F9, M, M, S, C}},
        {ANY "scram-sha-256", "10.1.1.1", {F9, S, D, S, C}},
        /* falls through to trust */
        {NET "scram-sha-256\n" ANY "trust", "10.1.1.1", {T, S, T, S, C}},
        {NET "md5\n" ANY "trust", "10.1.1.1", {T, M, M, T, C}},
        /* the other probe runs into the reject */
        {NET "md5\n" ANY "reject", "10.1.1.1", {F9, M, M, D, C}},
        {NET "scram-sha-256\n" ANY "reject", "10.1.1.1", {F9, S, D, S, C}},
        {NET "scram-sha-256\n" ANY "md5", "10.1.1.1", {F9, S, M, S, C}},
        {ANY "pam\n" ANY "md5", "10.1.1.1", {F9, M, M, S, C}},
    };

    check_rows(rows, COUNT_OF(rows), false);
}

TEST(rules_match_transport_address_database_and_user)
{
    static const struct {
        const char *rules;
        const char *from;
        const char *database;
        const char *user;
        int want;
    } rows[] = {
        {"host all all 127.0.0.1/32 md5", "127.0.0.1", "d", "u", M},
        {"host all all 127.0.0.1/32 md5", "127.0.0.2", "d", "u", OUT},
        {"host all all 127.0.0.1/32 md5", "unix", "d", "u", OUT},
        {"host all all 127.0.0.1/32 md5", "::ffff:127.0.0.1", "d", "u", M},
        {"host all all ::ffff:127.0.0.0/104 md5", "127.3.0.1", "d", "u", M},
        {"host all all ::1/128 md5", "::1", "d", "u", M},
        {"host all all ::/0 md5", "2001:db8::1", "d", "u", M},
        {"host all all ::/0 md5", "127.0.0.1", "d", "u", OUT},
        {"host all all fe80::/10 md5", "febf::1", "d", "u", M},
        {"host all all fe80::/10 md5", "fec0::1", "d", "u", OUT},
        {"host all all 10.1.2.3/8 md5", "10.9.9.9", "d", "u", M},
        {"host all all 10.1.2.3 md5", "10.1.2.3", "d", "u", M},
        {"host all all 10.1.2.3 md5", "10.1.2.4", "d", "u", OUT},
        {"host all all 10.1.2.3 255.255.0.0 md5", "10.1.9.9", "d", "u", M},
        {"host all all 10.1.2.3 255.255.0.0 md5", "10.2.9.9", "d", "u", OUT},
        {"host all all fd00::1 ffff:: md5", "fd00:1::", "d", "u", M},
        {"host all all all md5", "::1", "d", "u", M},
        {"host all all samehost md5", "127.0.0.1", "d", "u", M},
        {"host all all samehost md5", "198.51.100.7", "d", "u", OUT},
        {"host all all samenet md5", "127.7.7.7", "d", "u", M},
        {"local all all trust\nhost all all 0.0.0.0/0 md5", "unix", "d", "u", T},
        {"local all all trust\nhost all all 0.0.0.0/0 md5", "10.0.0.1", "d", "u", M},
        {"local all all reject\nhost all all 0.0.0.0/0 md5", "unix", "d", "u", OUT},
        {"local all all trust\nhostssl all all 0.0.0.0/0 trust", "10.0.0.1", "d", "u", OUT},
        {"local all all trust\nhostssl all all 0.0.0.0/0 trust", "10.0.0.1+tls", "d", "u", T},
        {"hostnossl all u all reject\nhostssl all u all trust", "10.0.0.1", "d", "u", OUT},
        {"hostnossl all u all reject\nhostssl all u all trust", "10.0.0.1+tls", "d", "u", T},
        {"hostgssenc all all all trust\nhostnogssenc all all all md5", "::1", "d", "u", M},
        {"host all postgres all trust\nhost all all all md5", "::1", "d", "postgres", T},
        {"host all postgres all trust\nhost all all all md5", "::1", "d", "u", M},
        {"host d u,v all md5", "::1", "d", "v", M},
        {"host d u, v all md5", "::1", "d", "v", M},
        {"host d u,v all md5", "::1", "d", "w", OUT},
        {"host e,d,f u all md5", "::1", "d", "u", M},
        {"host D u all md5", "::1", "d", "u", OUT},
        {"HOST ALL All ALL MD5", "::1", "d", "u", M},
        {"host \"all\" u all md5", "::1", "d", "u", OUT},
        {"host \"all\" u all md5", "::1", "all", "u", M},
        {"host \"a b\" u all md5", "::1", "a b", "u", M},
        {"host \"a,#b\" u all md5", "::1", "a,#b", "u", M},
        {"host \"a\"\"b\" u all md5", "::1", "a\"b", "u", M},
        {"host sameuser all all md5", "::1", "u", "u", M},
        {"host sameuser all all md5", "::1", "d", "u", OUT},
        {"host \"sameuser\" all all md5", "::1", "sameuser", "u", M},
        {"host replication all all md5", "::1", "replication", "u", OUT},
        {"host \"replication\" all all md5", "::1", "replication", "u", M},
        {"host /^app_[0-9]+$ all all md5", "::1", "app_12", "u", M},
        {"host /^app_[0-9]+$ all all md5", "::1", "app_x", "u", OUT},
        {"host \"/^(a|b),c$\" /^u all md5", "::1", "b,c", "uvw", M},
        {"host all \"+role\" all md5", "::1", "d", "+role", M},
        {"host all \"@file\" all md5", "::1", "d", "@file", M},
        {"host all u all md5 # all", "::1", "d", "u", M},
        {"host all u all md5# all", "::1", "d", "u", M},
        {"# host all all all trust\n\n \t\r\nhost all u all md5\r\n", "::1", "d", "u", M},
        {"host all \\\n  u all \\\r\n md5\nhost all all all trust", "::1", "d", "u", M},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct hba *h = parsed(rows[i].rules, true);

        if (h != NULL)
            EQ(answer(h, rows[i].from, rows[i].database, rows[i].user, SECRET_MD5), rows[i].want,
               "from %s to %s as %s:\n%s", rows[i].from, rows[i].database, rows[i].user,
               rows[i].rules);
        hba_unref(h);
    }
}

TEST(lines_that_cannot_be_used_are_refused)
{
    static const struct {
        const char *rules;
        const char *want;
    } rows[] = {
        {"host", "pg_hba line 1: database expected"},
        {"\n#\nhost all all", "pg_hba line 3: address expected"},
        {"local all \\\n all\nhost all all all nonsense", "pg_hba line 1: method expected"},
        {"local all \\\n all md5\nhost x", "pg_hba line 3: user expected"},
        {"host all all 127.0.0.1/32", "pg_hba line 1: method expected"},
        {"host all all 127.0.0.1 255.0.0.0", "pg_hba line 1: method expected"},
        {"hosts all all all md5", "pg_hba line 1: unknown connection type 'hosts'"},
        {"include other.conf", "pg_hba line 1: 'include' is not supported"},
        {"include_dir other", "pg_hba line 1: 'include_dir' is not supported"},
        {"host @dbs all all md5", "pg_hba line 1: file 'dbs': lists in files are not supported"},
        {"host all +r all md5", "pg_hba line 1: '+r': membership in roles is not known here"},
        {"host samerole u all md5",
         "pg_hba line 1: 'samerole': membership in roles is not known here"},
        {"host all all example.org md5", "pg_hba line 1: invalid address 'example.org' (host names "
                                         "are not supported)"},
        {"host all all 127.0.0.1/33 md5", "pg_hba line 1: invalid prefix length in '127.0.0.1/33'"},
        {"host all all 127.0.0.1/ md5", "pg_hba line 1: invalid prefix length in '127.0.0.1/'"},
        {"host all all 127.0.0.1/-1 md5", "pg_hba line 1: invalid prefix length in '127.0.0.1/-1'"},
        {"host all all ::1/129 md5", "pg_hba line 1: invalid prefix length in '::1/129'"},
        {"host all all 10.0.0.0 255.0.255.0 md5", "pg_hba line 1: mask '255.0.255.0' has a gap"},
        {"host all all 10.0.0.0 ffff:: md5",
         "pg_hba line 1: address and mask 'ffff::' are of different families"},
        {"host all all all,all md5", "pg_hba line 1: only one address is possible"},
        {"host all all all md6", "pg_hba line 1: unknown method 'md6'"},
        {"host all all all peer", "pg_hba line 1: method 'peer' is for local connections only"},
        {"host all all all cert", "pg_hba line 1: method 'cert' is for hostssl connections only"},
        {"hostssl all all all md5 clientcert=verify-full",
         "pg_hba line 1: option 'clientcert=verify-full' is not supported with this method"},
        {"host all all all md5 junk", "pg_hba line 1: option 'junk' is not of the form name=value"},
        {"host \"all all all md5", "pg_hba line 1: quote is not closed"},
        {"host a,,b all all md5", "pg_hba line 1: empty item in a list"},
        {"host a, ", "pg_hba line 1: empty item in a list"},
        {"host /( all all md5", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct failure why = {""};
        struct hba *h = NULL;

        EQ(hba_parse(&h, rows[i].rules, true, &why), -1, "%s", rows[i].rules);
        CHECK(h == NULL);
        if (rows[i].want != NULL)
            STR_EQ(why.text, rows[i].want, "%s", rows[i].rules);
        hba_unref(h);
    }
}

TEST(list_of_networks_admits_without_trust)
{
    static const char *const nets[] = {"10.0.0.0/8", "::1/128"};
    static const char *const broken[] = {"10.0.0.0/8", "everybody"};
    struct failure why;
    struct hba *h;

    EQ(hba_from_list(&h, nets, COUNT_OF(nets), &why), 0);
    EQ(answer(h, "10.1.1.1", "d", "u", SECRET_MD5), M);
    EQ(answer(h, "::ffff:10.1.1.1", "d", "u", SECRET_SCRAM), S);
    EQ(answer(h, "::1", "d", "u", SECRET_PLAIN), M);
    EQ(answer(h, "::1", "d", "u", SECRET_EMPTY), F9);
    EQ(answer(h, "11.1.1.1", "d", "u", SECRET_MD5), OUT);
    EQ(answer(h, "unix", "d", "u", SECRET_MD5), M);
    hba_unref(h);

    EQ(hba_from_list(&h, NULL, 0, &why), 0);
    EQ(answer(h, "11.1.1.1", "d", "u", SECRET_MD5), M);
    EQ(answer(h, "2001:db8::1", "d", "u", SECRET_SCRAM), S);
    EQ(answer(h, "unix", "d", "u", SECRET_JWT), C);
    hba_unref(h);

    EQ(hba_from_list(&h, broken, COUNT_OF(broken), &why), -1);
}

TEST(console_is_trusted_only_where_it_is_named)
{
    static const struct {
        const char *rules;
        const char *user;
        int strict;
        int probes;
    } rows[] = {
        {"host all all all trust", "admin", M, M},
        {"host all all all trust", "bob", M, M},
        {"host pgdoorman all all trust", "admin", T, T},
        {"host pgdoorman all all trust", "bob", M, M},
        {"host pgbouncer,pgdoorman admin all trust", "admin", T, T},
        {"host /pgdoorman all all trust", "admin", M, M},
        {"host all all all md5", "admin", M, M},
        {"host all all all scram-sha-256", "admin", S, M},
        {"host all all all password", "admin", C, D},
        {"host all all all reject", "admin", D, D},
        {"host all all all pam", "admin", D, D},
        {"host all all all md5\nhost all all all reject", "admin", M, D},
        {"host all admin all trust\nhost all u all md5", "admin", M, M},
        {"host all admin all trust\nhost all u all md5", "bob", D, D},
    };
    struct hba_peer peer = peer_of("10.1.1.1");

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct hba *strict = parsed(rows[i].rules, true);
        struct hba *probes = parsed(rows[i].rules, false);

        EQ(hba_admin_method(strict, &peer, "pgdoorman", rows[i].user, "admin"), rows[i].strict,
           "%s: %s", rows[i].user, rows[i].rules);
        EQ(hba_admin_method(probes, &peer, "pgdoorman", rows[i].user, "admin"), rows[i].probes,
           "%s: %s", rows[i].user, rows[i].rules);
        hba_unref(strict);
        hba_unref(probes);
    }
}

TEST(text_is_what_was_written)
{
    struct hba *h = parsed("# c\n  host all  \"a b\" all md5 # c\n\nlocal all,b all trust\t\r\n"
                           "local all all \\\npeer map=m#c",
                           true);
    char *text = hba_text(h);

    STR_EQ(text, "host all  \"a b\" all md5\nlocal all,b all trust\nlocal all all peer map=m\n");
    free(text);
    hba_unref(hba_ref(h));
    hba_unref(h);
    hba_unref(NULL);
}
