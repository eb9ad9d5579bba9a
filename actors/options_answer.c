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

static int refuse(enum options_command command)
{
    fprintf(stderr, "Error: %s is not available in this build\n", options_command_name(command));
    return 1;
}

int options_answer(const struct options *o)
{
    switch (o->command) {
    case COMMAND_HELP: options_print_help(o->help_topic); return flushed(0);
    case COMMAND_VERSION: printf("pg_doorman %s\n", DOORMAN_VERSION); return flushed(0);
    case COMMAND_GENERATE:
    case COMMAND_GENERATE_DOCS: return refuse(o->command);
    case COMMAND_INSPECT: return flushed(inspect_file(o->inspect_file, o->inspect_json));
    case COMMAND_SNAPSHOT: return flushed(snapshot_take(o));
    case COMMAND_RUN: break;
    }
    INVARIANT(o->command != COMMAND_RUN);
    return 1;
}
