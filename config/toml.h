/* toml.h: a strict reader of TOML 1.0.
 *
 * Pure: text in, tree out. What the standard forbids is refused, with line and column.
 */
#ifndef CONFIG_TOML_H
#define CONFIG_TOML_H

#include "config/tree.h"

/* `file` is kept in the nodes' origins and must live as long as the arena. On failure -1 and
 * "TOML parse error at line L, column C in FILE: reason"; the reason never quotes a value. */
MUST_CHECK int toml_parse(struct tree **out, struct arena *arena, const char *file,
                          const char *text, size_t len, struct failure *why);

#endif
