/* generate_cli.h: `pg_doorman generate` and `pg_doorman generate-docs`. They run and end; each
 * returns the exit status, having said on stderr what failed.
 */
#ifndef ACTORS_GENERATE_CLI_H
#define ACTORS_GENERATE_CLI_H

#include "actors/options.h"

int generate_run(const struct options *o);
int generate_docs_run(const struct options *o);

#endif
