/* decode.h: from the document tree to typed settings. */
#ifndef CONFIG_DECODE_H
#define CONFIG_DECODE_H

#include "config/include.h"
#include "config/settings.h"

struct decoder {
    struct arena *arena;
    struct notes *warnings;
    struct failure *why;
};

/* Fills everything that stands in the document, and defaults. Pools come sorted by name, map
 * settings under canonical names. Unknown names are noted. The failure says what was expected,
 * where, and never quotes a secret. */
MUST_CHECK int config_decode(struct decoder *d, struct config *out, const struct tree *root);

/* The fields of one section from their defaults; for `generate`. */
void section_set_defaults(struct arena *arena, enum setting_section section, void *base);

/* The spelling under which PostgreSQL reports a setting: "timezone" is "TimeZone"; names without
 * such a spelling are lower-cased. */
char *guc_canonical(struct arena *arena, const char *name);
/* Sorts by name. */
void pairs_sort(struct pair_list *list);

#endif
