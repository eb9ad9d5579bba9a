/* decode_value.h: one setting from one node. For decode.c. */
#ifndef CONFIG_DECODE_VALUE_H
#define CONFIG_DECODE_VALUE_H

#include "config/decode.h"

/* "Could not merge config: <reason> (<path>, file:line)". Returns -1. */
PRINTF_LIKE(4, 5)
int decode_fail(struct decoder *d, struct origin at, const char *path, const char *format, ...);
MUST_CHECK int decode_setting(struct decoder *d, const struct setting *s, void *base,
                              const struct tree *node, const char *path);
void setting_set_default(struct arena *arena, const struct setting *s, void *base);

#endif
