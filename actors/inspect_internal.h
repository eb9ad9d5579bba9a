/* inspect_internal.h: the steps of `inspect`: check the bytes, sum up, print. */
#ifndef ACTORS_INSPECT_INTERNAL_H
#define ACTORS_INSPECT_INTERNAL_H

#include "actors/inspect.h"

#include <msgpack.h>

enum { INSPECT_DEPTH_MAX = 30 }; /* msgpack-c unpacks 32 */

/* Exactly one well-formed document? Counts that the remaining bytes cannot hold are refused, so
 * that unpacking never allocates more than a small multiple of the input. */
MUST_CHECK int inspect_check(const uint8_t *at, size_t len, struct failure *why);

void inspect_emit_yaml(FILE *out, const msgpack_object *document);
void inspect_emit_json(FILE *out, const msgpack_object *document);
void inspect_emit_summary(FILE *out, const msgpack_object *document);

/* The value behind a key; NULL when there is none, or map is no map (or NULL). */
const msgpack_object *inspect_get(const msgpack_object *map, const char *key);

/* inspect_text.c: quoted strings. Bytes that are not UTF-8 appear as escapes (YAML) or as the
 * replacement character (JSON). */
void inspect_quote_yaml(FILE *out, const char *text, size_t len); /* plain where that is safe */
void inspect_quote_json(FILE *out, const char *text, size_t len);
void inspect_base64(FILE *out, const char *at, size_t len);
void inspect_float(FILE *out, double v);

#endif
