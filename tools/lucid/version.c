/* version.c - `lucid version`: the version of this command and of the engine linked into it. */
#include "lucid/lucid.h"
#include "tool.h"

int tool_version_main(int argc, char **argv) {
    const struct argp parser = {NULL, NULL, NULL, "Print the version.", NULL, NULL, NULL};
    tool_parse(&parser, argc, argv, NULL);
    printf("lucid %s\n", lu_version());
    return 0;
}
