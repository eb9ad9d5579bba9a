/* yaml_scalar.h: what a YAML word means. */
#ifndef CONFIG_YAML_SCALAR_H
#define CONFIG_YAML_SCALAR_H

#include "config/tree.h"

enum yaml_word { YAML_NULL, YAML_VALUE, YAML_TOO_LARGE };

/* A plain scalar, resolved by its look. On YAML_VALUE *out is set. */
enum yaml_word yaml_resolve_plain(struct tree **out, struct arena *arena, struct origin at,
                                  const char *text, size_t len);

#endif
