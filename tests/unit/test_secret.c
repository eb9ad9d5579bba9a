#include "auth/nfkc.h"
#include "auth/scram_keys.h"
#include "tests/unit/unit.h"

#define VERIFIER                                                                                \
    "SCRAM-SHA-256$4096:EBESExQVFhcYGRobHB0eHw==$PQiG1KoFy/0TwvbB6xrrSINTI5rNtyIwL5ABOYTXqLo=:" \
    "un1HLuZKNVERmRkEBOyZ6hbkT8Y3/XO+F8TJcKtmsVY="

static const uint8_t salt[16] = {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
                                 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f};

TEST(md5_stored_hashes_password_and_user)
{
    static const struct {
        const char *user;
        const char *password;
        const char *want;
    } rows[] = {
        {"example_user_1", "test", "md58a67a0c805a5ee0384ea28e0dea557b6"},
        {"static_user", "static_pass", "md55260eead4132209ce419175f9de0d570"},
        {"auth_user1", "secret1", "md5745d551fcb9b52490a5c37420d9384df"},
        {"pt_md5_user", "md5_pass", "md53888bcccb34c83e0129c32354510baa4"},
        {"admin", "admin", "md5f6fdffe48c908deb0f4c3bd36c032e72"},
        {"alice", "wonderland", "md56b765adf84f3c4341e8aab77ceda3bf1"},
        {"алиса", "пароль", "md5310357177c9a730efb1ecaaf51274a38"},
    };
    char out[MD5_TEXT + 1];

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        md5_stored(out, rows[i].password, rows[i].user);
        STR_EQ(out, rows[i].want, "%s", rows[i].user);
    }
}

TEST(md5_response_hashes_stored_form_and_salt)
{
    static const struct {
        const char *stored;
        uint8_t salt[4];
        const char *want;
    } rows[] = {
        {"md56b765adf84f3c4341e8aab77ceda3bf1",
         {1, 2, 3, 4},
         "md5370dfac54ebb2bdeedf68eab452ffd72"},
        {"md56b765adf84f3c4341e8aab77ceda3bf1",
         {0xde, 0xad, 0xbe, 0xef},
         "md5b1571f9deaaa37580b2e2cbcfd516f3a"},
        {"md56b765adf84f3c4341e8aab77ceda3bf1",
         {0, 0, 0, 0},
         "md58f2202131ecc4510c987ccba756782f5"},
        {"md5f6fdffe48c908deb0f4c3bd36c032e72",
         {1, 2, 3, 4},
         "md5738652baa6a64520b74b67ccdb2c09e1"},
        {"md58a67a0c805a5ee0384ea28e0dea557b6",
         {1, 2, 3, 4},
         "md535e465bd88b8c4845f0d10921277d1b9"},
    };
    char out[MD5_TEXT + 1];

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        md5_response(out, rows[i].stored, rows[i].salt);
        STR_EQ(out, rows[i].want);
    }
}

TEST(secret_kind_wants_the_full_form)
{
    static const struct {
        const char *stored;
        enum secret_kind want;
    } rows[] = {
        {"", SECRET_EMPTY},
        {"md5f6fdffe48c908deb0f4c3bd36c032e72", SECRET_MD5},
        {"md5F6FDFFE48C908DEB0F4C3BD36C032E72", SECRET_PLAIN},
        {"md5f6fdffe48c908deb0f4c3bd36c032e7", SECRET_PLAIN},
        {"md5f6fdffe48c908deb0f4c3bd36c032e720", SECRET_PLAIN},
        {"md5_pass", SECRET_PLAIN},
        {VERIFIER, SECRET_SCRAM},
        {VERIFIER "=", SECRET_PLAIN},
        {"SCRAM-SHA-256", SECRET_PLAIN},
        {"SCRAM-SHA-256$4096:$PQiG1KoFy/0TwvbB6xrrSINTI5rNtyIwL5ABOYTXqLo=:"
         "un1HLuZKNVERmRkEBOyZ6hbkT8Y3/XO+F8TJcKtmsVY=",
         SECRET_PLAIN},
        {"SCRAM-SHA-256$4096:EBES$PQiG1KoFy/0TwvbB6xrrSINTI5rNtyIwL5ABOYTXqLo=:EBES", SECRET_PLAIN},
        {"jwt-pkey-fpath:/etc/key.pem", SECRET_JWT},
        {"wonderland", SECRET_PLAIN},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        EQ(secret_kind(rows[i].stored), rows[i].want, "%s", rows[i].stored);
}

TEST(verifier_iterations_are_positive_decimal)
{
    static const struct {
        const char *iterations;
        int want;
    } rows[] = {
        {"1", 0},   {"4096", 0},   {"2147483647", 0}, {"2147483648", -1},
        {"0", -1},  {"", -1},      {"-1", -1},        {"+1", -1},
        {" 1", -1}, {"4096x", -1}, {"00", -1},        {"99999999999999999999999", -1},
    };
    struct scram_verifier v;
    char text[256];

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        snprintf(text, sizeof(text), "SCRAM-SHA-256$%s%s", rows[i].iterations,
                 strchr(VERIFIER, ':'));
        EQ(scram_verifier_parse(&v, text), rows[i].want, "%s", text);
    }
}

static void check_verifier(const char *password, uint32_t iterations, const char *stored_key,
                           const char *server_key)
{
    struct scram_verifier v;
    char text[SCRAM_KEY_TEXT + 1];

    scram_verifier_derive(&v, password, salt, sizeof(salt), iterations);
    base64_encode(text, v.stored_key, SCRAM_KEY);
    STR_EQ(text, stored_key, "%s", password);
    base64_encode(text, v.server_key, SCRAM_KEY);
    if (server_key != NULL)
        STR_EQ(text, server_key, "%s", password);
}

TEST(verifier_is_derived_from_a_password)
{
    check_verifier("wonderland", 4096, "PQiG1KoFy/0TwvbB6xrrSINTI5rNtyIwL5ABOYTXqLo=",
                   "un1HLuZKNVERmRkEBOyZ6hbkT8Y3/XO+F8TJcKtmsVY=");
    check_verifier("wonderland", 1, "J0VhJdPr+qEMZoalQofUmncl15tGJdsLKlWvsKSidYA=",
                   "CKfjHqrIQU80h9oa+vPWJl/lcyoAKMfeMSdZJJmyUc0=");
    check_verifier("wonderland", 600000, "8ooFMjTDylho9z98sQ9GdoElVCSIAxOrWmvF1MZU/Oc=",
                   "aqKWtGrF3VXkDMGb1uefz9qldAJY5j/g55I42AdAX4A=");
}

TEST(verifier_parse_decodes_what_derive_makes)
{
    struct scram_verifier parsed;
    struct scram_verifier derived;

    EQ(scram_verifier_parse(&parsed, VERIFIER), 0);
    scram_verifier_derive(&derived, "wonderland", salt, sizeof(salt), 4096);
    EQ(parsed.iterations, derived.iterations);
    EQ(parsed.salt_len, derived.salt_len);
    CHECK(memcmp(parsed.salt, salt, sizeof(salt)) == 0);
    CHECK(secret_equal(parsed.stored_key, SCRAM_KEY, derived.stored_key, SCRAM_KEY));
    CHECK(secret_equal(parsed.server_key, SCRAM_KEY, derived.server_key, SCRAM_KEY));
    CHECK(!secret_equal(parsed.server_key, SCRAM_KEY, derived.stored_key, SCRAM_KEY));
    CHECK(!secret_equal("ab", 2, "abc", 3));
}

TEST(verifier_matches_its_password_alone)
{
    static const struct {
        const char *password;
        bool right;
    } rows[] = {
        {"wonderland", true},           {"wonderlan", false}, {"wonderland ", false}, {"", false},
        {"WONDERLAND", false}, /* the secret itself is no password */
        {"SCRAM-SHA-256$4096:", false},
    };
    struct scram_verifier v;
    uint8_t stored_key[SCRAM_KEY];
    uint8_t client_key[SCRAM_KEY];
    static const uint8_t wiped[SCRAM_KEY];

    scram_verifier_derive(&v, "wonderland", salt, sizeof(salt), 4096);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        EQ(scram_verifier_matches(&v, rows[i].password, client_key), rows[i].right, "%s",
           rows[i].password);
        scram_stored_key(stored_key, client_key);
        EQ(memcmp(stored_key, v.stored_key, SCRAM_KEY) == 0, rows[i].right, "%s", rows[i].password);
        EQ(memcmp(client_key, wiped, SCRAM_KEY) == 0, !rows[i].right, "%s", rows[i].password);
    }
}

TEST(verifier_password_is_prepared)
{
    check_verifier("\xe2\x85\xa8", 4096, "ETEOBbSfU73I+q7TIov5KguIRgNPW5j0GA77gzkl3YY=", NULL);
    check_verifier("a\xc2\xa0"
                   "b",
                   4096, "q1BED9NG+uYDGI3Sik/dJsO1xQhe1VQGaCuJY/r684Y=", NULL);
    check_verifier("\xff\xfe", 4096, "5KO2l2H4tX3UnHZ4XgASmQ+uW6kZNa4y80irL6jjsmA=", NULL);
}

TEST(saslprep_normalizes_or_leaves_alone)
{
    static const struct {
        const char *what;
        const char *password;
        const char *want;
    } rows[] = {
        {"ASCII", "user", "user"},
        {"empty", "", ""},
        {"soft hyphen goes", "I\u00adX", "IX"},
        {"compatibility", "\u00aa", "a"},
        {"composition", "e\u0301", "\u00e9"},
        {"two marks, wrong order", "q\u0307\u0323", "q\u0323\u0307"},
        {"mark composes across another", "a\u0323\u0302", "\u1ead"},
        {"Hangul", "\u1112\u1161\u11ab", "\ud55c"},
        {"Hangul stays", "\ud55c", "\ud55c"},
        {"longest expansion", "\ufdfa",
         "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 "
         "\u0648\u0633\u0644\u0645"},
        {"above the first plane", "\U0001d400", "A"},
        {"control character refused", "\u00e9\x07", "\u00e9\x07"},
        {"both directions refused", "\u0627x\u00aa", "\u0627x\u00aa"},
        {"right-to-left must enclose", "\u06271\u00b2", "\u06271\u00b2"},
        {"unassigned refused", "\u00aa\U0001f600", "\u00aa\U0001f600"},
        {"nothing left refused", "\u00ad", "\u00ad"},
        {"long form refused", "\xc0\x80\xc2\xaa", "\xc0\x80\xc2\xaa"},
        {"surrogate refused", "\xed\xa0\x80\xc2\xaa", "\xed\xa0\x80\xc2\xaa"},
        {"cut character refused", "\xc2\xaa\xe2\x85", "\xc2\xaa\xe2\x85"},
        {"beyond Unicode refused", "\xf4\x90\x80\x80\xc2\xaa", "\xf4\x90\x80\x80\xc2\xaa"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *prepared = saslprep(rows[i].password);

        STR_EQ(prepared, rows[i].want, "%s", rows[i].what);
        free(prepared);
    }
}

TEST(nfkc_expands_within_its_bound)
{
    for (uint32_t code = 1; code < 0x110000; code++) {
        uint32_t out[2 * NFKC_EXPANSION];
        uint32_t again[2 * NFKC_EXPANSION * NFKC_EXPANSION];
        size_t count = nfkc(out, &code, 1);
        size_t count_again = nfkc(again, out, count);

        CHECK(count >= 1 && count <= NFKC_EXPANSION, "U+%04X", code);
        CHECK(count == count_again && memcmp(out, again, count * sizeof(*out)) == 0,
              "U+%04X is not stable", code);
    }
}
