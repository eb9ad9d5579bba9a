#include "auth/scram.h"
#include "tests/unit/unit.h"

#define VERIFIER                                                                                \
    "SCRAM-SHA-256$4096:EBESExQVFhcYGRobHB0eHw==$PQiG1KoFy/0TwvbB6xrrSINTI5rNtyIwL5ABOYTXqLo=:" \
    "un1HLuZKNVERmRkEBOyZ6hbkT8Y3/XO+F8TJcKtmsVY="
#define NONCE   "cNq8T2vYb0sPzLw4Rj7Xe1KaAAECAwQFBgcICQoLDA0ODxAR"
#define PROOF_N "a5j3G5hiXq5pv18joeevOxnUCm0cUqLhMI8Qyk5ylpg="
#define PROOF_Y "cqvpzG23SgxynhqIDgOCRxh8uh4zwcYmz8IW7Fkj/Iw="

static const uint8_t server_nonce[18] = {0, 1,  2,  3,  4,  5,  6,  7,  8,
                                         9, 10, 11, 12, 13, 14, 15, 16, 17};
static const uint8_t client_nonce[18] = {0xa4, 0xea, 0x0b, 0x79, 0x19, 0xce, 0x9c, 0x27, 0xb4,
                                         0xd7, 0x6d, 0xf8, 0xe7, 0xae, 0xfc, 0xf5, 0xa6, 0xdc};
static const uint8_t client_key[SCRAM_KEY] = {
    0x5f, 0xb3, 0xc0, 0xf4, 0x80, 0xe8, 0x70, 0xa9, 0x95, 0xea, 0x6b, 0x92, 0xbd, 0x35, 0x87, 0xe2,
    0x53, 0x89, 0x62, 0x06, 0xdc, 0xdb, 0xab, 0x2c, 0x3b, 0x79, 0xdd, 0x8b, 0x72, 0x59, 0xc9, 0x88};

/* A server that has seen this client-first-message. */
static struct scram_server server_after(const char *client_first)
{
    struct scram_server s = {0};
    struct failure why;

    EQ(scram_verifier_parse(&s.verifier, VERIFIER), 0);
    EQ(scram_server_first(&s, bytes_of(client_first), server_nonce, &why), SCRAM_OK, "%s",
       client_first);
    return s;
}

static void check_server_first(const struct scram_server *s, const char *want)
{
    EQ(s->server_first_len, strlen(want));
    CHECK(memcmp(s->server_first, want, strlen(want)) == 0, "%s", want);
}

TEST(server_accepts_the_right_proof_and_recovers_the_client_key)
{
    static const struct {
        const char *first;
        const char *final;
        const char *want;
    } rows[] = {
        {"n,,n=,r=cNq8T2vYb0sPzLw4Rj7Xe1Ka", "c=biws,r=" NONCE ",p=" PROOF_N,
         "v=JcwI8Kl3jz3g4w0ZFNE8FIc10ZXSMD/TSuMJwLK64lo="},
        {"y,,n=,r=cNq8T2vYb0sPzLw4Rj7Xe1Ka", "c=eSws,r=" NONCE ",p=" PROOF_Y,
         "v=o5ChkPp7TGvSaEaekopuSSVixZGtcrQAA6775KFJaHs="},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scram_server s = server_after(rows[i].first);
        struct failure why;
        char out[64];

        check_server_first(&s, "r=" NONCE ",s=EBESExQVFhcYGRobHB0eHw==,i=4096");
        EQ(scram_server_final(&s, bytes_of(rows[i].final), out, &why), SCRAM_OK);
        STR_EQ(out, rows[i].want);
        CHECK(memcmp(s.client_key, client_key, SCRAM_KEY) == 0);
    }
}

TEST(server_judges_client_first)
{
    static const struct {
        const char *what;
        const char *message;
        enum scram_verdict want;
    } rows[] = {
        {"empty", "", SCRAM_MALFORMED},
        {"flag alone", "n", SCRAM_MALFORMED},
        {"header alone", "n,,", SCRAM_MALFORMED},
        {"no nonce", "n,,n=", SCRAM_MALFORMED},
        {"no nonce behind the comma", "n,,n=,", SCRAM_MALFORMED},
        {"nonce of one byte short", "n,,n=,r", SCRAM_MALFORMED},
        {"empty nonce", "n,,n=,r=", SCRAM_MALFORMED},
        {"empty nonce and an extension", "n,,n=,r=,x=1", SCRAM_MALFORMED},
        {"short nonce", "n,,n=,r=a", SCRAM_OK},
        {"a name", "n,,n=alice,r=abc", SCRAM_OK},
        {"a name with non-ASCII bytes", "n,,n=\xd0\xb0,r=abc", SCRAM_OK},
        {"an extension is kept", "n,,n=,r=abc,x=1", SCRAM_OK},
        {"an extension without value", "n,,n=,r=abc,x", SCRAM_MALFORMED},
        {"comma at the end", "n,,n=,r=abc,", SCRAM_MALFORMED},
        {"mandatory extension first", "n,,m=1,n=,r=abc", SCRAM_MALFORMED},
        {"mandatory extension last", "n,,n=,r=abc,m=1", SCRAM_MALFORMED},
        {"order", "n,,r=abc,n=", SCRAM_MALFORMED},
        {"channel binding", "p=tls-server-end-point,,n=,r=abc", SCRAM_MALFORMED},
        {"unknown flag", "x,,n=,r=abc", SCRAM_MALFORMED},
        {"authorization identity", "n,a=bob,n=,r=abc", SCRAM_MALFORMED},
        {"space in the nonce", "n,,n=,r=a b", SCRAM_MALFORMED},
        {"high byte in the nonce", "n,,n=,r=a\xff", SCRAM_MALFORMED},
        {"control byte in the nonce", "n,,n=,r=a\x7f", SCRAM_MALFORMED},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scram_server s = {0};
        struct failure why;

        EQ(scram_verifier_parse(&s.verifier, VERIFIER), 0);
        EQ(scram_server_first(&s, bytes_of(rows[i].message), server_nonce, &why), rows[i].want,
           "%s", rows[i].what);
    }
}

TEST(server_takes_nonces_up_to_the_limit_and_no_nul)
{
    struct scram_server s = {0};
    struct failure why;
    char text[1024];

    EQ(scram_verifier_parse(&s.verifier, VERIFIER), 0);
    s.verifier.salt_len = SCRAM_SALT_MAX;
    s.verifier.iterations = INT32_MAX;
    for (size_t len = 1; len < 700; len++) {
        int used = snprintf(text, sizeof(text), "n,,n=,r=%0*d", (int)len, 1);

        EQ(scram_server_first(&s, (struct bytes){(uint8_t *)text, (size_t)used}, server_nonce,
                              &why),
           len <= SCRAM_NONCE_MAX ? SCRAM_OK : SCRAM_MALFORMED, "%zu", len);

        used = snprintf(text, sizeof(text), "n,,n=%0*d,r=a", (int)len, 1);
        EQ(scram_server_first(&s, (struct bytes){(uint8_t *)text, (size_t)used}, server_nonce,
                              &why),
           len + 6 <= sizeof(s.client_first_bare) ? SCRAM_OK : SCRAM_MALFORMED, "%zu", len);
    }
    EQ(scram_server_first(&s, (struct bytes){(const uint8_t *)"n,,n=\0,r=abc", 12}, server_nonce,
                          &why),
       SCRAM_MALFORMED);
}

TEST(server_judges_client_final)
{
    static const struct {
        const char *what;
        const char *message;
        enum scram_verdict want;
    } rows[] = {
        {"empty", "", SCRAM_MALFORMED},
        {"proof alone", "p=" PROOF_N, SCRAM_MALFORMED},
        {"no proof", "c=biws,r=" NONCE, SCRAM_MALFORMED},
        {"no nonce", "c=biws,p=" PROOF_N, SCRAM_MALFORMED},
        {"order", "r=" NONCE ",c=biws,p=" PROOF_N, SCRAM_MALFORMED},
        {"other flag", "c=eSws,r=" NONCE ",p=" PROOF_N, SCRAM_WRONG},
        {"empty binding", "c=,r=" NONCE ",p=" PROOF_N, SCRAM_WRONG},
        {"cut nonce", "c=biws,r=cNq8T2vYb0sPzLw4Rj7Xe1Ka,p=" PROOF_N, SCRAM_WRONG},
        {"longer nonce", "c=biws,r=" NONCE "x,p=" PROOF_N, SCRAM_WRONG},
        {"empty nonce", "c=biws,r=,p=" PROOF_N, SCRAM_WRONG},
        {"another proof", "c=biws,r=" NONCE ",p=" PROOF_Y, SCRAM_WRONG},
        {"signed extension unknown to the proof", "c=biws,r=" NONCE ",x=1,p=" PROOF_N, SCRAM_WRONG},
        {"mandatory extension", "c=biws,r=" NONCE ",m=1,p=" PROOF_N, SCRAM_MALFORMED},
        {"empty proof", "c=biws,r=" NONCE ",p=", SCRAM_MALFORMED},
        {"short proof", "c=biws,r=" NONCE ",p=a5j3G5hiXq5pv18joeevOw==", SCRAM_MALFORMED},
        {"long proof", "c=biws,r=" NONCE ",p=a5j3G5hiXq5pv18joeevOxnUCm0cUqLhMI8Qyk5ylpgA",
         SCRAM_MALFORMED},
        {"proof and more", "c=biws,r=" NONCE ",p=" PROOF_N "AAAA", SCRAM_MALFORMED},
        {"not base64",
         "c=biws,r=" NONCE ",p=!5j3G5hiXq5pv18joeevOxnUCm0cUqLhMI8Qyk5ylpg=", SCRAM_MALFORMED},
        {"NUL-ended", "c=biws,r=" NONCE ",p=" PROOF_N "\n", SCRAM_MALFORMED},
    };
    static const uint8_t no_key[SCRAM_KEY];

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scram_server s = server_after("n,,n=,r=cNq8T2vYb0sPzLw4Rj7Xe1Ka");
        struct failure why;
        char out[64];

        EQ(scram_server_final(&s, bytes_of(rows[i].message), out, &why), rows[i].want, "%s",
           rows[i].what);
        STR_EQ(out, "");
        CHECK(memcmp(s.client_key, no_key, SCRAM_KEY) == 0, "%s: key kept", rows[i].what);
    }
}

#define CHALLENGE \
    "r=pOoLeRnOnCe0123456789abcICEiIyQlJicoKSorLC0uLzAx,s=EBESExQVFhcYGRobHB0eHw==,i=4096"
#define ANSWER                                                   \
    "c=biws,r=pOoLeRnOnCe0123456789abcICEiIyQlJicoKSorLC0uLzAx," \
    "p=HyzbyzwCGXUeVt0lNL9a7LqQqsbhyviPD1fpS9lnJw8="

static struct scram_client client_begun(const char *password)
{
    struct scram_client c = {.password = password};
    struct scram_verifier v;
    char out[128];

    EQ(scram_verifier_parse(&v, VERIFIER), 0);
    memcpy(c.client_key, client_key, SCRAM_KEY);
    memcpy(c.server_key, v.server_key, SCRAM_KEY);
    scram_client_begin(&c, client_nonce, out, sizeof(out));
    STR_EQ(out, "n,,n=,r=pOoLeRnOnCe0123456789abc");
    return c;
}

TEST(client_proves_itself_with_keys_or_password)
{
    static const char *const passwords[] = {NULL, "wonderland"};

    for (size_t i = 0; i < COUNT_OF(passwords); i++) {
        struct scram_client c = client_begun(passwords[i]);
        struct failure why;
        char out[SCRAM_NONCE_MAX + 256];

        EQ(scram_client_challenge(&c, bytes_of(CHALLENGE), out, sizeof(out), &why), 0);
        STR_EQ(out, ANSWER);
        EQ(scram_client_verify(&c, bytes_of("v=WROjKdBe8/PFDtcAJw650suCevB3bMVt3mqAHZCCzso="),
                               &why),
           0);
    }
}

TEST(client_follows_the_example_of_rfc_7677)
{
    struct scram_client c = {.password = "pencil"};
    struct bytes challenge = bytes_of("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                      "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    struct failure why;
    char out[SCRAM_NONCE_MAX + 256];

    snprintf(c.nonce, sizeof(c.nonce), "rOprNGfwEbeRWgbNEkqO");
    snprintf(c.client_first_bare, sizeof(c.client_first_bare), "n=user,r=%s", c.nonce);
    EQ(scram_client_challenge(&c, challenge, out, sizeof(out), &why), 0);
    STR_EQ(out, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    EQ(scram_client_verify(&c, bytes_of("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), &why),
       0);
}

TEST(client_judges_the_challenge)
{
#define OWN  "pOoLeRnOnCe0123456789abc"
#define SALT ",s=EBESExQVFhcYGRobHB0eHw=="
    static const struct {
        const char *what;
        const char *message;
        int want;
    } rows[] = {
        {"whole", "r=" OWN "x" SALT ",i=1", 0},
        {"attributes inside the nonce", "r=" OWN "r=s=i=" SALT ",i=1", 0},
        {"most iterations", "r=" OWN "x" SALT ",i=10000000", 0},
        {"too many iterations", "r=" OWN "x" SALT ",i=10000001", -1},
        {"no iterations", "r=" OWN "x" SALT ",i=0", -1},
        {"negative iterations", "r=" OWN "x" SALT ",i=-1", -1},
        {"nonce not extended", "r=" OWN SALT ",i=1", -1},
        {"another nonce", "r=qOoLeRnOnCe0123456789abcx" SALT ",i=1", -1},
        {"cut nonce", "r=pOo" SALT ",i=1", -1},
        {"no salt", "r=" OWN "x,i=1", -1},
        {"empty salt", "r=" OWN "x,s=,i=1", -1},
        {"salt not base64", "r=" OWN "x,s=EBES!,i=1", -1},
        {"mandatory extension", "m=1,r=" OWN "x" SALT ",i=1", -1},
        {"fourth attribute", "r=" OWN "x" SALT ",i=1,x=1", -1},
        {"empty", "", -1},
        {"short", "r=", -1},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scram_client c = client_begun(NULL);
        struct failure why;
        char out[SCRAM_NONCE_MAX + 256];

        EQ(scram_client_challenge(&c, bytes_of(rows[i].message), out, sizeof(out), &why),
           rows[i].want, "%s", rows[i].what);
    }
}

TEST(client_answer_must_fit)
{
    struct failure why;
    char out[sizeof(ANSWER)];

    for (size_t size = 1; size <= sizeof(out); size++) {
        struct scram_client c = client_begun(NULL);

        EQ(scram_client_challenge(&c, bytes_of(CHALLENGE), out, size, &why),
           size == sizeof(out) ? 0 : -1, "%zu", size);
    }
}

TEST(client_judges_the_signature)
{
    static const struct {
        const char *what;
        const char *message;
    } rows[] = {
        {"another signature", "v=JcwI8Kl3jz3g4w0ZFNE8FIc10ZXSMD/TSuMJwLK64lo="},
        {"an error", "e=invalid-proof"},
        {"empty", ""},
        {"no value", "v="},
        {"short value", "v=WROj"},
        {"garbage behind", "v=WROjKdBe8/PFDtcAJw650suCevB3bMVt3mqAHZCCzso=,"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scram_client c = client_begun(NULL);
        struct failure why;
        char out[SCRAM_NONCE_MAX + 256];

        EQ(scram_client_challenge(&c, bytes_of(CHALLENGE), out, sizeof(out), &why), 0);
        EQ(scram_client_verify(&c, bytes_of(rows[i].message), &why), -1, "%s", rows[i].what);
    }
}

TEST(client_takes_no_signature_without_a_challenge)
{
    struct scram_client c = client_begun(NULL);
    struct failure why;

    memset(c.server_signature, 0, sizeof(c.server_signature));
    EQ(scram_client_verify(&c, bytes_of("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), &why),
       -1);
}

TEST(salts_of_nobody_depend_on_secret_and_name)
{
    static const uint8_t wanted[16] = {0x5d, 0xa4, 0x95, 0xd5, 0xcc, 0x22, 0x65, 0x67,
                                       0xcb, 0x21, 0x69, 0xbb, 0x18, 0x2e, 0xf8, 0xfd};
    uint8_t secret[SCRAM_KEY];
    struct scram_verifier one;
    struct scram_verifier other;

    for (uint8_t i = 0; i < SCRAM_KEY; i++)
        secret[i] = i;
    scram_mock_salt(&one, secret, "d", "nobody");
    EQ(one.salt_len, 16);
    EQ(one.iterations, 4096);
    CHECK(memcmp(one.salt, wanted, sizeof wanted) == 0);
    scram_mock_salt(&other, secret, "dn", "obody");
    CHECK(memcmp(other.salt, wanted, sizeof wanted) != 0);
}
