/* reference.h: the documentation of all settings, written from the one table (config/settings.h).
 */
#ifndef CONFIG_REFERENCE_H
#define CONFIG_REFERENCE_H

#include "config/settings.h"

enum { REFERENCE_PAGES = 3 };

/* A page of Markdown, malloc'ed, and its file's name ("general.md"); page < REFERENCE_PAGES. */
char *reference_page(size_t page, const char **name);
/* settings_russian.c: the help of a setting in Russian. */
const char *setting_help_russian(const struct setting *setting);

#endif
