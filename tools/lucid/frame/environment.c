/*
 * environment.c - keeps LUCID_OPTIONS from the engine inside this command.
 *
 * `lucid replay` simulates on the engine, so it is linked in, with the constructor that reads
 * LUCID_OPTIONS and the report at exit. Those options are meant for the programs that the command
 * runs. Before any constructor the variable therefore gets another name, in place, and its own
 * again when main begins:
 *
 *     .preinit_array     LUCID_OPTIONS=stats:1  ->  lUCID_OPTIONS=stats:1
 *     constructors       the engine finds no options
 *     main               LUCID_OPTIONS=stats:1
 *
 * Who wants the engine to have them says so (tool_read_options): `lucid options`, and the child in
 * which a replay runs.
 */
#include "frame/commands.h"
#include "frame/frame.h"

#include <stdlib.h>
#include <string.h>

#include "base/options.h"

static char *hidden; /* "lUCID_OPTIONS=…" in the environment, or NULL */

static void hide(int argc, char **argv, char **environment) {
    (void)argc, (void)argv;
    for (char **variable = environment; *variable != NULL; variable++) {
        if (strncmp(*variable, "LUCID_OPTIONS=", 14) != 0) continue;
        hidden = *variable;
        hidden[0] = 'l';
        return;
    }
}

__attribute__((section(".preinit_array"), used)) static void (*const at_start)(int, char **,
                                                                               char **) = hide;

void tool_show_options(void) {
    if (hidden != NULL) hidden[0] = 'L';
}

void tool_read_options(void) {
    const char *text = secure_getenv("LUCID_OPTIONS");
    if (text != NULL) lu__options_read(text);
}
