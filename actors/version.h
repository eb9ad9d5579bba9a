/* version.h: what `--version`, SHOW VERSION and the metrics call this program. */
#ifndef ACTORS_VERSION_H
#define ACTORS_VERSION_H

#define DOORMAN_VERSION "3.10.7"

#endif
