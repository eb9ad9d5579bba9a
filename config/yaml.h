/* yaml.h: YAML documents as configuration trees.
 *
 * libfyaml splits the text into events; what a plain word means (number, boolean, null) is decided
 * here, since the dialect is fixed by the files that exist: only true/false are booleans, digits
 * with a leading zero are text, and a null value counts as an absent key.
 */
#ifndef CONFIG_YAML_H
#define CONFIG_YAML_H

#include "config/tree.h"

struct notes; /* config/notes.h */

/* On failure -1 and "YAML parse error: ..." or "YAML to TOML conversion error: ...", with the
 * position. Repeated keys are noted, the last one wins. */
MUST_CHECK int yaml_parse(struct tree **out, struct arena *arena, const char *file,
                          const char *text, size_t len, struct notes *notes, struct failure *why);

#endif
