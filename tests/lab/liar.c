/*
 * liar.c - a library to preload that tells facts of its own, before those of the probe: good ones,
 * and lines that no probe would write.
 */
#include <string.h>
#include <unistd.h>

enum { FACT_FD = 3, LONG = 100000 };

static void tell(const char *text, size_t length) {
    ssize_t written = write(FACT_FD, text, length);
    (void)written; /* there is none where nobody listens */
}

static __attribute__((constructor)) void tell_all(void) {
    static const char facts[] = "= liar 42\n"
                                ": told a text | with \xff and blanks\n"
                                "+ points 1 2\n+ points 3 4.5\n"
                                "\n\n=\n= \n= alone\n+ half 1\n? what 1\n=x 2\n"
                                "= no_number nan\n= word zero\n";
    static char line[LONG];
    tell(facts, sizeof facts - 1);
    memset(line, 'x', sizeof line);
    memcpy(line, ": long ", 7);
    line[LONG - 1] = '\n';
    tell(line, sizeof line);
}
