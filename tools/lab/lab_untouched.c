/*
 * lab_untouched.c - memory that nobody touches costs nothing; and how much can be asked for.
 *
 * How much depends on the kernel's rule (vm.overcommit_memory). It is everybody's, so it is read
 * and not changed, unless --overcommit says that it may be. In mode 0, what is more than all memory
 * and swap together is refused; in mode 1 nothing is; in mode 2, what is more than CommitLimit
 * leaves.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "lab/lab_list.h"
#include "lab/lab_overcommit.h"
#include "frame/frame.h"

#define MIB (1024.0 * 1024.0)
enum { LEFT_LEAST_MIB = 2048 };

/* A line of /proc/meminfo, in MiB. */
static double memory_info(const char *name) {
    char line[200];
    double kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) tool_die("cannot read /proc/meminfo");
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) kib = strtod(line + strlen(name), NULL);
    }
    fclose(file);
    return kib / 1024;
}

static void check_call(struct lab *lab, size_t which, const char *call,
                       const struct lab_facts *facts) {
    const char *name = lab_name(lab, which);
    char key[64];
    double figures[4];
    static const char *const what[] = {"faults", "resident", "write_faults", "write_resident"};
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "%s_%s", call, what[i]);
        figures[i] = lab_number(facts, key);
    }
    document_row(lab_document(lab), "%s|%s(1 GiB)|%.0f|%.0f|%.0f|%.0f", name, call, figures[0],
                 figures[1] / 1024, figures[2], figures[3] / 1024);
    if (!lab_is_known(lab, which)) return; /* it may have written zeros */
    lab_check(lab, name, figures[1] < MIB, "%s(1 GiB): %.0f KiB resident after %.0f page faults",
              call, figures[1] / 1024, figures[0]);
    lab_check(lab, name, figures[2] == 3 && figures[3] - figures[1] <= 3 * 65536.0,
              "%s(1 GiB): three bytes written are %.0f faults and %.0f KiB", call, figures[2],
              (figures[3] - figures[1]) / 1024);
}

/* ------------------------------------------------------------------ more than there is ------- */

enum verdict { REFUSED, GIVEN, EITHER };
static const char *const verdict_names[] = {"refused", "given", "either, it is close"};

/* How many MiB more the kernel would promise, by its rule. */
static double promised_most(int mode, double memory, double swap) {
    struct rlimit space;
    double most = mode == 0   ? memory + swap
                  : mode == 2 ? memory_info("CommitLimit:") - memory_info("Committed_AS:")
                              : HUGE_VAL;
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
        most = fmin(most, (double)space.rlim_cur / MIB);
    }
    return most;
}

/* What is to be expected; what others do meanwhile, and what an allocator asks for beside, is not
 * known to a MiB. */
static enum verdict expect(double asked, double most, double memory) {
    if (fabs(asked - most) < 0.05 * memory) return EITHER;
    return asked < most ? GIVEN : REFUSED;
}

/* malloc of 1.2 times the memory under the rule that is in force. */
static void check_too_much(struct lab *lab, size_t i) {
    const char *name = lab_name(lab, i);
    char asked[32];
    double memory = memory_info("MemTotal:"), swap = memory_info("SwapTotal:");
    int mode = lab_overcommit_mode();
    snprintf(asked, sizeof asked, "%.0f", 1.2 * memory);
    enum verdict expected = expect(1.2 * memory, promised_most(mode, memory, swap), memory);
    if (!lab_is_known(lab, i)) expected = EITHER; /* some ask without a reservation */
    const struct lab_facts *facts = lab_probe(lab, i,
                                              (const char *[]){"too_much", asked, "0", NULL});
    enum verdict found = lab_number(facts, "succeeds") == 1 ? GIVEN : REFUSED;
    document_row(lab_document(lab), "%s|malloc(1.2 x %s MiB), overcommit mode %d: %s||||", name,
                 cell_count(memory).text, mode, verdict_names[found]);
    lab_check(lab, name,
              (expected == EITHER || found == expected) &&
                  (found == GIVEN || lab_number(facts, "out_of_memory") == 1),
              "malloc(%s MiB), 1.2 times the memory, overcommit mode %d, %s MiB of swap: %s "
              "(expected: %s)",
              cell_count(1.2 * memory).text, mode, cell_count(swap).text,
              found == GIVEN ? "given" : "NULL and ENOMEM", verdict_names[expected]);
    lab_check(lab, name, lab_number(facts, "goes_on") == 1, "and malloc(100) works after that");
}

/* Under each rule, if that is allowed. */
static void check_all_modes(struct lab *lab) {
    int old = lab_overcommit_mode();
    lab_overcommit_begin();
    for (int mode = 0; mode <= 2; mode++) {
        double left = memory_info("CommitLimit:") - memory_info("Committed_AS:");
        if (mode == 2 && left < LEFT_LEAST_MIB) {
            lab_check(lab, "", false,
                      "mode 2 was not tried: with %s MiB left to promise, programs of this "
                      "system would not go on",
                      cell_count(left).text);
            continue;
        }
        lab_overcommit_set(mode);
        for (size_t i = 0; i < lab_count(lab); i++) check_too_much(lab, i);
    }
    lab_overcommit_end();
    lab_check(lab, "", lab_overcommit_mode() == old, "the rule is %d again, as it was",
              lab_overcommit_mode());
}

/* Others may have reserved so much before that they need not ask. */
static void check_limit(struct lab *lab, size_t i) {
    const char *name = lab_name(lab, i);
    const struct lab_facts *facts = lab_probe(lab, i,
                                              (const char *[]){"too_much", "1000", "500", NULL});
    bool given = lab_number(facts, "succeeds") == 1;
    document_row(lab_document(lab), "%s|malloc(1000 MiB), 500 MiB below RLIMIT_AS: %s||||", name,
                 given ? "given" : "refused");
    lab_check(lab, name,
              lab_number(facts, "out_of_memory") == 1 || (given && !lab_is_known(lab, i)),
              "with RLIMIT_AS 500 MiB away, malloc(1000 MiB) gives %s",
              given ? "a block" : "NULL and ENOMEM");
    lab_check(lab, name, lab_number(facts, "goes_on") == 1, "and malloc(100) works after that");
}

static void run(struct lab *lab) {
    document_table(lab_document(lab), "Asked for, and touched (resident: what is no file)",
                   "allocator|call|page faults|resident KiB|faults of 3 writes|resident KiB then");
    for (size_t i = 0; i < lab_count(lab); i++) {
        const struct lab_facts *facts = lab_probe(lab, i, (const char *[]){"untouched", NULL});
        check_call(lab, i, "malloc", facts);
        check_call(lab, i, "calloc", facts);
        lab_check(lab, lab_name(lab, i), lab_number(facts, "calloc_zero") == 1,
                  "what calloc gives is zero%s",
                  lab_is_known(lab, i) ? ", and nobody wrote the zeros" : "");
        if (!lab_may_overcommit(lab)) check_too_much(lab, i);
        check_limit(lab, i);
    }
    if (lab_may_overcommit(lab)) check_all_modes(lab);
}

const struct lab_experiment lab_untouched = {
    .name = "untouched",
    .title = "Untouched memory costs nothing",
    .expect =
        "malloc gives addresses; memory comes when a page is first written, by a page fault. A GiB "
        "that was asked for takes no memory, and three bytes written into it take three pages. So "
        "does a GiB from calloc: what comes fresh from the kernel is zero, and an allocator that "
        "knows it need not write. How much may be asked for is the kernel's decision: 1.2 times "
        "the machine's memory is refused in overcommit mode 0 if swap does not make up for it "
        "(that is the heuristic's 'obviously too much'), given in mode 1, and in mode 2 it depends "
        "on the commit limit (--overcommit tries all three, as root); under a limit of the process "
        "it is refused. Refused means NULL and ENOMEM, and the program goes on.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
