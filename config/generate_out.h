/* generate_out.h: lines of YAML and TOML. For the files of config/generate.h. */
#ifndef CONFIG_GENERATE_OUT_H
#define CONFIG_GENERATE_OUT_H

#include "config/generate.h"
#include "config/settings.h"

#include <stdio.h>

struct generate_out {
    FILE *to;
    const struct generate_request *request;
    int indent;   /* of YAML, in blanks */
    bool off;     /* lines are commented out */
    bool explain; /* comments are wanted here */
    bool item;    /* the next YAML line begins a list item */
};

/* Text in double quotes, as both formats read it. */
void out_quoted(FILE *to, const char *text);
/* A name as a key: bare if that is safe in both formats. */
void out_name(FILE *to, const char *name);
/* A comment in the language that is wanted, wrapped; and an empty line. Nothing without comments.
 */
void out_comment(struct generate_out *out, const char *english, const char *russian);
void out_gap(struct generate_out *out);
/* A line as it is, at the current indentation, commented out if lines are. */
void out_line(struct generate_out *out, const char *text);
/* "name: value"; value is written as settings.c writes defaults ("5s", "a, b" for a list). */
void out_setting(struct generate_out *out, const struct setting *setting, const char *value);

#endif
