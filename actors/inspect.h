/* inspect.h: `pg_doorman inspect FILE`: a snapshot, or any msgpack document, for people.
 *
 * Called by options_answer(). The file may come from anywhere: whatever it holds, the result is
 * output or a reason, with memory bounded by a small multiple of the file's size.
 */
#ifndef ACTORS_INSPECT_H
#define ACTORS_INSPECT_H

#include "runtime/base.h"

#include <stdio.h>

/* "-" is stdin. Prints to stdout, reasons to stderr. Returns the exit status: 0 or 1. */
int inspect_file(const char *path, bool json);

/* The same for bytes at hand. YAML gets a summary as comments on top. */
MUST_CHECK int inspect_print(FILE *out, const uint8_t *at, size_t len, bool json,
                             struct failure *why);

#endif
