/*
 * lab_misuse.c - what happens on a double free, an overflow, a use after free, on each allocator.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/lab_list.h"
#include "frame/frame.h"

enum { STOPPED = 's', UNNOTICED = 'u', EITHER = '?' };

/* Expected: of glibc and pt, of lucid, and of lucid with harden:1. */
static const struct {
    const char *name, *words;
    char ptmalloc, lucid, hardened;
} misuses[] = {
    {"double_free", "a block of 24 bytes freed twice", STOPPED, STOPPED, STOPPED},
    {"double_free_later", "the same with 20 other frees in between", EITHER, STOPPED, STOPPED},
    {"double_free_large", "a block of 1 MiB freed twice", STOPPED, STOPPED, STOPPED},
    {"free_of_stack", "free of a local variable", STOPPED, STOPPED, STOPPED},
    {"free_inside", "free of an address inside a block", STOPPED, STOPPED, STOPPED},
    {"overflow", "8 bytes written past a block of 24, which is then freed", EITHER, UNNOTICED,
     STOPPED},
    {"write_after_free", "a freed block written, then 1,000 of its size asked for", EITHER, STOPPED,
     STOPPED},
    {"read_after_free", "a freed block read: is what was in it still there?", UNNOTICED, UNNOTICED,
     UNNOTICED},
    {"use_after_free_large", "a freed block of 1 MiB written", STOPPED, UNNOTICED, STOPPED},
};
enum { MISUSES = sizeof misuses / sizeof misuses[0] };

/* An allocator, perhaps with options. */
struct subject {
    size_t which;
    const char *options;
    char name[64];
    const struct lab_facts *facts[MISUSES];
};

/* The first line that was said, or how it ended. */
static void outcome(const struct lab_facts *facts, char *text, size_t room) {
    const char *said = lab_complaint(facts);
    size_t length = strcspn(said, "\n");
    if (length > 0) {
        snprintf(text, room, "stopped: %.*s", (int)length, said);
    } else if (lab_end(facts) == 128 + SIGXCPU || lab_end(facts) == 128 + SIGALRM) {
        snprintf(text, room, "it hangs");
    } else if (lab_end(facts) > 128) {
        snprintf(text, room, "stopped: signal %d (%s)", lab_end(facts) - 128,
                 strsignal(lab_end(facts) - 128));
    } else {
        snprintf(text, room, "%s", lab_text(facts, "result"));
    }
    for (char *c = text; *c != '\0'; c++) {
        if (*c == '|') *c = '/';
    }
}

/* In one word: who stopped it? */
static const char *verdict(const struct lab_facts *facts) {
    int end = lab_end(facts);
    if (end == 0) return "not noticed";
    if (end == 128 + SIGXCPU || end == 128 + SIGALRM) return "hangs";
    if (end == 128 + SIGSEGV || end == 128 + SIGBUS) return "fault";
    return "found";
}

static void try_all(struct lab *lab, struct subject *subject) {
    snprintf(subject->name, sizeof subject->name, "%s%s%s", lab_name(lab, subject->which),
             subject->options != NULL ? " " : "", subject->options != NULL ? subject->options : "");
    for (int k = 0; k < MISUSES; k++) {
        subject->facts[k] = lab_probe_that_may_die(
            lab, subject->which, (const char *[]){"misuse", misuses[k].name, NULL},
            subject->options);
    }
}

static void check_known(struct lab *lab, const struct subject *subject) {
    char text[200];
    for (int k = 0; k < MISUSES; k++) {
        char expected = lab_is_ptmalloc(lab, subject->which) ? misuses[k].ptmalloc
                        : subject->options != NULL           ? misuses[k].hardened
                                                             : misuses[k].lucid;
        bool stopped = lab_end(subject->facts[k]) != 0;
        outcome(subject->facts[k], text, sizeof text);
        if (expected == EITHER) continue;
        lab_check(lab, subject->name, stopped == (expected == STOPPED), "%s: %s", misuses[k].words,
                  text);
    }
}

/* Of others it is not known what they see; but the probes must have run. */
static void check_other(struct lab *lab, const struct subject *subject) {
    size_t stopped = 0, told = 0;
    for (int k = 0; k < MISUSES; k++) {
        int end = lab_end(subject->facts[k]);
        stopped += end != 0;
        told += end == 0 ? lab_text(subject->facts[k], "result")[0] != '\0' : end > 128;
    }
    lab_check(lab, subject->name, told == MISUSES, "%zu of %d misuses did not go unnoticed",
              stopped, MISUSES);
}

/* A row for each misuse, a column for each allocator. */
static void compare(struct lab *lab, const struct subject *subjects, size_t count) {
    char *row = tool_format("%s", "misuse");
    for (size_t i = 0; i < count; i++) row = lab_append(row, "|%s", subjects[i].name);
    document_table(lab_document(lab), "Who notices what", row);
    for (int k = 0; k < MISUSES; k++) {
        free(row);
        row = tool_format("%s", misuses[k].words);
        for (size_t i = 0; i < count; i++) {
            row = lab_append(row, "|%s", verdict(subjects[i].facts[k]));
        }
        document_row(lab_document(lab), "%s", row);
    }
    free(row);
    document_text(lab_document(lab),
                  "found: the allocator said so and ended the program. fault: the memory is not "
                  "there any more, the processor said so. hangs: the allocator never came back.");
}

static void list_outcomes(struct lab *lab, const struct subject *subjects, size_t count) {
    char text[200];
    document_table(lab_document(lab), "In their words", "allocator|misuse|outcome");
    for (size_t i = 0; i < count; i++) {
        for (int k = 0; k < MISUSES; k++) {
            outcome(subjects[i].facts[k], text, sizeof text);
            document_row(lab_document(lab), "%s|%s|%s", subjects[i].name, misuses[k].words, text);
        }
    }
}

static void run(struct lab *lab) {
    size_t count = 0;
    struct subject *subjects = tool_alloc(2 * lab_count(lab), sizeof *subjects);
    for (size_t i = 0; i < lab_count(lab); i++) {
        subjects[count++].which = i;
        if (!lab_is_lucid(lab, i)) continue;
        subjects[count] = (struct subject){.which = i, .options = "harden:1"};
        count++;
    }
    for (size_t i = 0; i < count; i++) try_all(lab, &subjects[i]);
    compare(lab, subjects, count);
    list_outcomes(lab, subjects, count);
    for (size_t i = 0; i < count; i++) {
        const struct subject *subject = &subjects[i];
        if (lab_is_known(lab, subject->which)) {
            check_known(lab, subject);
        } else {
            check_other(lab, subject);
        }
        if (subject->options != NULL) {
            double kept = lab_number(subject->facts[MISUSES - 2], "kept");
            lab_check(lab, subject->name, kept == 0,
                      "%.0f bytes of a freed block can still be read", kept);
        }
    }
    free(subjects);
}

const struct lab_experiment lab_misuse = {
    .name = "misuse",
    .title = "Double free, overflow, use after free",
    .expect =
        "An allocator may trust its caller or look. Kernighan & Ritchie's and the fits know what "
        "stands in front of a block and who is its neighbour, so a wrong pointer shows as a "
        "nonsensical header. glibc and pt also put a key into blocks in the thread cache and so "
        "find a block that is freed twice in a row. lucid knows from its tables whether an address "
        "is a block at all, and whether it is free, however long ago, and notices when a link in a "
        "free block was overwritten. What is written past the end it does not see, nor what is "
        "read after free, unless it is hardened (LUCID_OPTIONS=harden:1): then a canary behind "
        "each block, zeros in free ones, and a quarantine show more. A large block that was given "
        "back to the system faults when it is touched.",
    .allocators = "kr,first,buddy,slab,dl,pt,glibc,lucid",
    .run = run,
};
