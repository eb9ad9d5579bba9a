/* Key and certificate files that a configuration names: made here, spoiled here, judged at load. */
#include "config/tls_files.h"
#include "tests/unit/config_rows.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static EVP_PKEY *make_ec_key(void)
{
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();

    INVARIANT(EC_KEY_generate_key(ec) == 1 && EVP_PKEY_assign_EC_KEY(key, ec) == 1);
    return key;
}

static EVP_PKEY *make_rsa_key(void)
{
    RSA *rsa = RSA_new();
    BIGNUM *e = BN_new();
    EVP_PKEY *key = EVP_PKEY_new();

    INVARIANT(BN_set_word(e, RSA_F4) == 1 && RSA_generate_key_ex(rsa, 2048, e, NULL) == 1 &&
              EVP_PKEY_assign_RSA(key, rsa) == 1);
    BN_free(e);
    return key;
}

static void write_certificate(const char *path, EVP_PKEY *key, int days)
{
    X509 *certificate = X509_new();
    FILE *f = fopen(path, "w");

    INVARIANT(f != NULL);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -100L * 86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400L);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    INVARIANT(X509_sign(certificate, key, EVP_sha256()) > 0);
    PEM_write_X509(f, certificate);
    X509_free(certificate);
    fclose(f);
}

enum key_form { FORM_PKCS8, FORM_PKCS1, FORM_SEC1, FORM_PUBLIC, FORM_ENCRYPTED };

static void write_key(const char *path, EVP_PKEY *key, enum key_form form)
{
    FILE *f = fopen(path, "w");
    int result = 0;

    INVARIANT(f != NULL);
    switch (form) {
    case FORM_PKCS8: result = PEM_write_PKCS8PrivateKey(f, key, NULL, NULL, 0, NULL, NULL); break;
    case FORM_PKCS1:
        result = PEM_write_RSAPrivateKey(f, EVP_PKEY_get0_RSA(key), NULL, NULL, 0, NULL, NULL);
        break;
    case FORM_SEC1:
        result = PEM_write_ECPrivateKey(f, EVP_PKEY_get0_EC_KEY(key), NULL, NULL, 0, NULL, NULL);
        break;
    case FORM_PUBLIC: result = PEM_write_PUBKEY(f, key); break;
    case FORM_ENCRYPTED: {
        char passphrase[] = "hunter2";
        result = PEM_write_PKCS8PrivateKey(f, key, EVP_aes_256_cbc(), passphrase,
                                           sizeof passphrase - 1, NULL, NULL);
        break;
    }
    }
    INVARIANT(result == 1);
    fclose(f);
}

static void append(const char *path, const char *from, const char *text)
{
    char content[8192];
    FILE *in = fopen(from, "r");
    size_t len = fread(content, 1, sizeof content - 1, in);
    FILE *out = fopen(path, "w");

    fwrite(content, 1, len, out);
    fputs(text, out);
    fclose(in);
    fclose(out);
}

static void make_files(void)
{
    static bool made;

    enter_scratch_directory();
    if (made)
        return;
    made = true;
    EVP_PKEY *ec = make_ec_key();
    EVP_PKEY *other = make_ec_key();
    EVP_PKEY *rsa = make_rsa_key();
    write_certificate("ec.crt", ec, 400);
    write_certificate("rsa.crt", rsa, 400);
    write_certificate("old.crt", ec, -1);
    write_certificate("soon.crt", ec, 10);
    write_key("ec.key", ec, FORM_PKCS8);
    write_key("ec-sec1.key", ec, FORM_SEC1);
    write_key("rsa.key", rsa, FORM_PKCS8);
    write_key("rsa-pkcs1.key", rsa, FORM_PKCS1);
    write_key("other.key", other, FORM_PKCS8);
    write_key("locked.key", ec, FORM_ENCRYPTED);
    write_key("ec.pub", ec, FORM_PUBLIC);
    write_key("rsa.pub", rsa, FORM_PUBLIC);
    file_write("text", "not a PEM file\n");
    file_write("torn.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    append("bundle.crt", "ec.crt",
           "# another\n-----BEGIN CERTIFICATE-----\nAAAA\n"
           "-----END CERTIFICATE-----\n");
    EVP_PKEY_free(ec);
    EVP_PKEY_free(other);
    EVP_PKEY_free(rsa);
}

#define PAIR_YAML(c, k) "  tls_certificate: " c "\n  tls_private_key: " k "\n"
#define PAIR_TOML(c, k) "tls_certificate = \"" c "\"\ntls_private_key = \"" k "\"\n"
#define PAIR(c, k)      PAIR_YAML(c, k), PAIR_TOML(c, k)

TEST(config_judges_client_facing_files)
{
    static const struct config_row rows[] = {
        {"EC, PKCS#8", IN_GENERAL, PAIR("ec.crt", "ec.key"), "ok"},
        {"EC, SEC1", IN_GENERAL, PAIR("ec.crt", "ec-sec1.key"), "ok"},
        {"RSA, PKCS#8", IN_GENERAL, PAIR("rsa.crt", "rsa.key"), "ok"},
        {"RSA, PKCS#1", IN_GENERAL, PAIR("rsa.crt", "rsa-pkcs1.key"), "ok"},
        {"another's key", IN_GENERAL, PAIR("ec.crt", "other.key"),
         "!tls is incorrectly configured: the private key other.key does not belong to the "
         "certificate ec.crt"},
        {"a key of another kind", IN_GENERAL, PAIR("ec.crt", "rsa.key"),
         "!tls is incorrectly configured: the private key rsa.key does not belong"},
        {"a locked key", IN_GENERAL, PAIR("ec.crt", "locked.key"),
         "!tls is incorrectly configured: locked.key: not a PEM private key without passphrase"},
        {"no key", IN_GENERAL, PAIR("ec.crt", "text"),
         "!tls is incorrectly configured: text: not a PEM private key"},
        {"no certificate", IN_GENERAL, PAIR("text", "ec.key"),
         "!tls is incorrectly configured: text: not a PEM certificate"},
        {"no file", IN_GENERAL, PAIR("ec.crt", "nowhere"),
         "!tls is incorrectly configured: nowhere: No such file or directory (os error 2)"},
        {"expired", IN_GENERAL, PAIR("old.crt", "ec.key"),
         "?the certificate in old.crt has expired"},
        {"expires soon", IN_GENERAL, PAIR("soon.crt", "ec.key"),
         "?the certificate in soon.crt expires in "},
        {"require", IN_GENERAL, PAIR_YAML("ec.crt", "ec.key") "  tls_mode: require\n",
         PAIR_TOML("ec.crt", "ec.key") "tls_mode = \"require\"\n", "tls_mode=require"},
        {"verify-full", IN_GENERAL,
         PAIR_YAML("ec.crt", "ec.key") "  tls_mode: verify-full\n  tls_ca_cert: rsa.crt\n",
         PAIR_TOML("ec.crt", "ec.key") "tls_mode = \"verify-full\"\ntls_ca_cert = \"rsa.crt\"\n",
         "ok"},
        {"verify-full with a torn CA", IN_GENERAL,
         PAIR_YAML("ec.crt", "ec.key") "  tls_mode: verify-full\n  tls_ca_cert: torn.crt\n",
         PAIR_TOML("ec.crt", "ec.key") "tls_mode = \"verify-full\"\ntls_ca_cert = \"torn.crt\"\n",
         "!tls is incorrectly configured: Unterminated PEM block in torn.crt"},
        {"disabled, sound files", IN_GENERAL, PAIR_YAML("ec.crt", "ec.key") "  tls_mode: disable\n",
         PAIR_TOML("ec.crt", "ec.key") "tls_mode = \"disable\"\n", "tls_mode=disable"},
    };

    make_files();
    RUN_ROWS(rows);
}

#define CA(file)                                                      \
    "  server_tls_mode: verify-ca\n  server_tls_ca_cert: " file "\n", \
        "server_tls_mode = \"verify-ca\"\nserver_tls_ca_cert = \"" file "\"\n"
#define IDENTITY(c, k)                                                    \
    "  server_tls_certificate: " c "\n  server_tls_private_key: " k "\n", \
        "server_tls_certificate = \"" c "\"\nserver_tls_private_key = \"" k "\"\n"

TEST(config_judges_backend_facing_files)
{
    static const struct config_row rows[] = {
        {"sound CA", IN_GENERAL, CA("ec.crt"), "ok"},
        {"CA without certificates", IN_GENERAL, CA("text"), "!No certificates found in text"},
        {"torn CA", IN_GENERAL, CA("torn.crt"),
         "!Unterminated PEM block in torn.crt: found BEGIN without END"},
        {"bad second certificate", IN_GENERAL, CA("bundle.crt"),
         "!Failed to parse certificate #2 in bundle.crt: "},
        {"sound identity", IN_GENERAL, IDENTITY("ec.crt", "ec-sec1.key"), "ok"},
        {"wrong identity", IN_GENERAL, IDENTITY("ec.crt", "other.key"),
         "!Failed to load server TLS client identity from ec.crt and other.key: "},
        {"pool identity", IN_POOL,
         "    server_tls_certificate: ec.crt\n    server_tls_private_key: text\n",
         "server_tls_certificate = \"ec.crt\"\nserver_tls_private_key = \"text\"\n",
         "!pool 'db': Failed to load server TLS client identity from ec.crt and text: "},
    };

    make_files();
    RUN_ROWS(rows);
}

TEST(config_judges_token_keys)
{
    static const struct config_row rows[] = {
        {"RSA user key", IN_USER, "        password: \"jwt-pkey-fpath:rsa.pub\"\n",
         "password = \"jwt-pkey-fpath:rsa.pub\"\n", "ok"},
        {"EC user key", IN_USER, "        password: \"jwt-pkey-fpath:ec.pub\"\n",
         "password = \"jwt-pkey-fpath:ec.pub\"\n", "ok"},
        {"no user key", IN_USER, "        password: \"jwt-pkey-fpath:text\"\n",
         "password = \"jwt-pkey-fpath:text\"\n",
         "!JWT public key error: text: not a PEM public key (row."},
        {"a private key", IN_USER, "        password: \"jwt-pkey-fpath:rsa.key\"\n",
         "password = \"jwt-pkey-fpath:rsa.key\"\n", "!JWT public key error: rsa.key: not a PEM"},
        {"talos key", AT_TOP, "talos: {keys: [rsa.pub], databases: [d]}\n",
         "[talos]\nkeys = [\"rsa.pub\"]\ndatabases = [\"d\"]\n", "talos.databases=d"},
        {"no talos key", AT_TOP, "talos: {keys: [text], databases: [d]}\n",
         "[talos]\nkeys = [\"text\"]\ndatabases = [\"d\"]\n",
         "!JWT public key error: text: not a PEM public key"},
        {"signing key", IN_USER,
         "        server_username: r\n        server_password: \"jwt-priv-key-fpath:rsa.key\"\n",
         "server_username = \"r\"\nserver_password = \"jwt-priv-key-fpath:rsa.key\"\n", "ok"},
        {"no signing key", IN_USER,
         "        server_username: r\n        server_password: \"jwt-priv-key-fpath:text\"\n",
         "server_username = \"r\"\nserver_password = \"jwt-priv-key-fpath:text\"\n",
         "?tokens for user 'u' cannot be signed: text: not a PEM private key"},
        {"SSO", AT_TOP,
         "web: {sso_enabled: true, sso_public_key_file: rsa.pub, sso_audience: [a]}\n",
         "[web]\nsso_enabled = true\nsso_public_key_file = \"rsa.pub\"\nsso_audience = [\"a\"]\n",
         "ok"},
        {"SSO with a bad key", AT_TOP,
         "web: {sso_enabled: true, sso_public_key_file: text, sso_audience: [a]}\n",
         "[web]\nsso_enabled = true\nsso_public_key_file = \"text\"\nsso_audience = [\"a\"]\n",
         "?web.sso_enabled ignored: text: not a PEM public key"},
    };

    make_files();
    RUN_ROWS(rows);
}

TEST(config_notices_files_that_change_on_disk)
{
    static const char text[] = "general: {admin_username: a, admin_password: s3cret,\n"
                               "  server_tls_mode: verify-ca, server_tls_ca_cert: rotated.crt}\n"
                               "pools: {d: {users: [{username: u, pool_size: 1}]}}\n";
    struct failure why;
    struct config *before;
    struct config *after;

    make_files();
    file_write("rotate.yaml", text);
    append("rotated.crt", "ec.crt", "");
    EQ(config_load(&before, "rotate.yaml", &why), 0);
    EQ(config_load(&after, "rotate.yaml", &why), 0);
    CHECK(config_equal(before, after));
    config_unref(after);
    append("rotated.crt", "rsa.crt", "");
    EQ(config_load(&after, "rotate.yaml", &why), 0);
    CHECK(!config_equal(before, after));
    config_unref(before);
    config_unref(after);
}

TEST(config_reads_hba_rules_from_a_file)
{
    static const struct config_row rows[] = {
        {"file", IN_GENERAL, "  pg_hba: {path: rules}\n", "pg_hba = {path = \"rules\"}\n",
         "pg_hba=host all all all md5\n"},
    };

    make_files();
    file_write("rules", "host all all all md5\n");
    RUN_ROWS(rows);
}

TEST(config_scratch_files_are_removed)
{
    static const char *const files[] = {"ec.crt",    "rsa.crt",     "old.crt",     "soon.crt",
                                        "ec.key",    "ec-sec1.key", "rsa.key",     "rsa-pkcs1.key",
                                        "other.key", "locked.key",  "ec.pub",      "rsa.pub",
                                        "text",      "torn.crt",    "rules",       "bundle.crt",
                                        "row.yaml",  "row.toml",    "rotate.yaml", "rotated.crt"};

    make_files();
    leave_scratch_directory(files, COUNT_OF(files));
}
