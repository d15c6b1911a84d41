/*
 * version.c - `lucid version`. The number is that of the public header: asking the engine for it
 * would bring its start and end into this command, and with LUCID_OPTIONS=stats:1 the command
 * would report on itself.
 */
#include "lucid/lucid.h"
#include "frame/commands.h"
#include "frame/frame.h"

int tool_version_main(int argc, char **argv) {
    const struct argp parser = {NULL, NULL, NULL, "Print the version.", NULL, NULL, NULL};
    tool_parse(&parser, argc, argv, NULL);
    printf("lucid %d.%d.%d\n", LUCID_VERSION_MAJOR, LUCID_VERSION_MINOR, LUCID_VERSION_PATCH);
    return 0;
}
