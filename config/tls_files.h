/* tls_files.h: can the key and certificate files be used? Asked at load, so that a mistake shows in
 * `-t` and not at the first connection. Nothing is kept.
 */
#ifndef CONFIG_TLS_FILES_H
#define CONFIG_TLS_FILES_H

#include "runtime/base.h"

/* A PEM public key, RSA or EC. The reason names the file. */
MUST_CHECK int public_key_check(const char *path, struct failure *why);
/* A PEM private key: PKCS#8, PKCS#1 or SEC1, without passphrase. */
MUST_CHECK int private_key_check(const char *path, struct failure *why);
/* A PEM bundle of at least one certificate, each of which parses. */
MUST_CHECK int certificate_bundle_check(const char *path, struct failure *why);
/* Certificate and key parse and belong together. */
MUST_CHECK int identity_check(const char *certificate, const char *key, struct failure *why);
/* Days until the first certificate of a file expires, negative when it has; INT32_MAX when that
 * cannot be told. */
int32_t certificate_days_left(const char *path);
/* SHA-256 over the contents of files, in order; NULL and unreadable ones count as empty. Adds to
 * what `digest` holds already. */
void files_digest(uint8_t digest[32], const char *const *paths, size_t count);

#endif
