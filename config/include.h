/* include.h: reading configuration files and merging them into one document. */
#ifndef CONFIG_INCLUDE_H
#define CONFIG_INCLUDE_H

#include "config/notes.h"
#include "config/tree.h"

struct include_config {
    struct string_list files;
};

enum file_result { FILE_OK, FILE_CANNOT_OPEN, FILE_CANNOT_READ };

/* Reads a whole file (64 MiB at most) into the arena, with a NUL behind it. The failure is the
 * bare reason, as in "No such file or directory (os error 2)". */
MUST_CHECK enum file_result file_read(struct bytes *out, struct arena *arena, const char *path,
                                      struct failure *why);
/* YAML when the name ends in .yaml or .yml in any letter case, else TOML. */
bool path_is_yaml(const char *path);
/* The main file with all its includes merged over it. */
MUST_CHECK int document_read(struct tree **out, struct arena *arena, const char *path,
                             struct notes *warnings, struct notes *remarks, struct failure *why);
/* Lays `extra` over `base`: tables key by key, arrays one behind the other, of scalars the later
 * one if it is of the same type. The failure names the key. */
MUST_CHECK int tree_merge(struct arena *arena, struct tree *base, const struct tree *extra,
                          struct failure *why);

#endif
