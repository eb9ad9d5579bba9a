#include "actors/generate_cli.h"
#include "actors/inspect.h"
#include "actors/options_internal.h"
#include "actors/snapshot_cli.h"
#include "actors/version.h"

#include <stdio.h>

/* Output that cannot be written is a failure: scripts redirect it into files. */
static int flushed(int status)
{
    return fflush(stdout) != 0 && status == 0 ? 1 : status;
}

int options_answer(const struct options *o)
{
    switch (o->command) {
    case COMMAND_HELP: options_print_help(o->help_topic); return flushed(0);
    case COMMAND_VERSION: printf("pg_doorman %s\n", DOORMAN_VERSION); return flushed(0);
    case COMMAND_GENERATE: return flushed(generate_run(o));
    case COMMAND_GENERATE_DOCS: return flushed(generate_docs_run(o));
    case COMMAND_INSPECT: return flushed(inspect_file(o->inspect_file, o->inspect_json));
    case COMMAND_SNAPSHOT: return flushed(snapshot_take(o));
    case COMMAND_RUN: break;
    }
    INVARIANT(o->command != COMMAND_RUN);
    return 1;
}
