/*
 * lab_sim.h - classic heaps inside the laboratory: pictures of them, and one workload for all.
 */
#ifndef LUCID_LAB_SIM_H
#define LUCID_LAB_SIM_H

#include "classic/classic.h"
#include "lab/lab.h"

/* A tracked heap of the policy; ends the command if there is none. The caller destroys it. */
struct lu__classic *lab_heap(const struct lu__policy *policy,
                             const struct lu__classic_config *config);

/* Since when a block is there. */
struct lab_birth {
    const void *payload;
    uint64_t event;
};
/* The heap as it is now, as one more frame of the document's heap section. `births` are those of
 * the blocks in use, in any order; they are sorted. */
void lab_frame(struct lab *lab, struct lu__classic *heap, uint64_t event, struct lab_birth *births,
               size_t birth_count);

/* The free blocks in address order, as text: "2+3": sizes in units of `unit` bytes. */
void lab_free_list(struct lu__classic *heap, size_t unit, char *text, size_t room);

/* A deterministic program: blocks of sizes that come in phases, most of them short-lived. */
struct lab_workload {
    const char *name;
    size_t events; /* allocations, and about as many frees        */
    size_t slots;  /* most blocks alive                           */
    size_t (*size)(uint64_t random, size_t event, size_t events);
};

enum { LAB_SAMPLES = 50 };

/* What happened on the way: figures at LAB_SAMPLES moments. */
struct lab_course {
    double event[LAB_SAMPLES];
    double live[LAB_SAMPLES], held[LAB_SAMPLES];         /* bytes  */
    double internal[LAB_SAMPLES], external[LAB_SAMPLES]; /* 0 to 1 */
    double peak_live, peak_held, searches_each;
    double external_after; /* when all was freed */
    bool sound;            /* every block was where it had to be, and the heap is valid */
    struct lu__classic_stats last;
};

double lab_mean(const double values[LAB_SAMPLES]);

/* Run it on a fresh heap of the policy. With `lab`, frames are added to its heap section. */
void lab_simulate(const struct lab_workload *workload, const struct lu__policy *policy,
                  struct lab_course *course, struct lab *lab);

#endif
