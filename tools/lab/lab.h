/*
 * lab.h - the experiments of `lucid lab`: what each is, and what they share.
 *
 * An experiment says in a paragraph what will be seen and why, measures it, and compares: each
 * comparison is a check, and the experiment holds if all of them do. What runs on a real allocator
 * runs in a process of its own, the program lucid-probe (tools/lab/probe), with that allocator
 * under it; the probe writes facts, one on a line, and the experiment reads them here.
 *
 *     lucid lab steps ──▶ lab_steps.c ──▶ lab_probe(…, "steps") ──▶ lucid-probe steps   on glibc
 *                              │  ◀── facts ──────────────────────────┘                   on pt …
 *                              └──▶ document (tables, charts, heap maps) + checks ──▶ "holds"
 *
 * To add one: write lab_NAME.c with its struct lab_experiment, name it in lab_list.h, lab_list.c
 * and CMakeLists.txt, and put what it measures into probe/; then name it in
 * tests/lab/CMakeLists.txt, and in a chapter of the book in both languages (tests/lab holds the
 * list against both). For one thread.
 */
#ifndef LUCID_LAB_H
#define LUCID_LAB_H

#include <stdbool.h>
#include <stddef.h>

#include "document/document.h"

struct lab; /* one run of one experiment */

struct lab_experiment {
    const char *name;
    const char *title;
    const char *expect;     /* what will be seen, and why: one paragraph                    */
    const char *allocators; /* what it runs on unless -a says otherwise; NULL: on none, it
                               simulates or has no allocator in it                          */
    void (*run)(struct lab *lab);
};

/* All, ended by NULL, in the order of the book (lab_list.c). */
extern const struct lab_experiment *const lab_experiments[];

/* ---- for experiments ---- */

/* Where text, tables and pictures go. */
struct document *lab_document(struct lab *lab);

/* The allocators it runs on: names by number from 0. */
size_t lab_count(const struct lab *lab);
const char *lab_name(const struct lab *lab, size_t which);
/* True of glibc and pt, which behave as the notes on ptmalloc say. */
bool lab_is_ptmalloc(const struct lab *lab, size_t which);
bool lab_is_lucid(const struct lab *lab, size_t which);
/* True of these: of others it is not known beforehand what they will do. */
bool lab_is_known(const struct lab *lab, size_t which);

/* True with --overcommit: the system's rule for promises may be changed for a moment. */
bool lab_may_overcommit(const struct lab *lab);

/* What a probe told: owned by the lab, valid to its end. */
struct lab_facts;
/* Run `lucid-probe ARGUMENT…` (NULL ends the list) on the allocator. A probe that fails is a check
 * that does not hold, and whatever it told before is there. */
const struct lab_facts *lab_probe(struct lab *lab, size_t which, const char *const *arguments);
/* The same of one that may die: nothing is checked. `options`: LUCID_OPTIONS for it, or NULL. */
const struct lab_facts *lab_probe_that_may_die(struct lab *lab, size_t which,
                                               const char *const *arguments, const char *options);
/* The same with no allocator put under it. */
const struct lab_facts *lab_probe_alone(struct lab *lab, const char *const *arguments);

/* The same under another program: `program` is its name and options, parted by spaces. */
const struct lab_facts *lab_probe_under(struct lab *lab, const char *program,
                                        const char *const *arguments);

/* NAN, "" if it was not told. */
double lab_number(const struct lab_facts *facts, const char *name);
const char *lab_text(const struct lab_facts *facts, const char *name);
/* A series of points, in the order told; 0 if there is none. Borrowed. */
size_t lab_series(const struct lab_facts *facts, const char *name, const double **x,
                  const double **y);
/* How it ended: its exit status, or 128 + the signal; and what it wrote on standard error. */
int lab_end(const struct lab_facts *facts);
const char *lab_complaint(const struct lab_facts *facts);

/* A comparison: what was measured, in words, and whether it is as expected. `of` is the allocator
 * or policy, or "". */
void lab_check(struct lab *lab, const char *of, bool holds, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* `text`, which is freed, with more behind it; the caller frees. For rows of tables with a column
 * for each allocator. */
char *lab_append(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* True if the two are within `share` (0.05: five per cent) of the expected one. */
bool lab_near(double measured, double expected, double share);

/* ---- for the command ---- */

int tool_lab_main(int argc, char **argv);

#endif
