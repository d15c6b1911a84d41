/*
 * probe.h - what the measuring programs of the laboratory share.
 *
 * lucid-probe runs on the allocator under test. It must not disturb what it measures, so nothing
 * here calls malloc: no stdio, static buffers, system calls. Facts go to descriptor 3, one a line
 * (tools/lab/lab_facts.c reads them), or to standard output when somebody runs it by hand.
 */
#ifndef LUCID_PROBE_H
#define LUCID_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One measurement: `lucid-probe NAME ARGUMENT…`; returns the exit status. */
struct probe {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the name */
};

void probe_number(const char *name, double value);
void probe_text(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
void probe_point(const char *series, double x, double y);
/* A line on standard error, and exit 1. */
_Noreturn void probe_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An argument that must be a number. */
size_t probe_argument(int argc, char **argv, int which);

/* What the compiler must not see through. */
#define probe_hidden(pointer)                           \
    ({                                                  \
        __typeof__(pointer) probe_p = (pointer);        \
        __asm__ volatile("" : "+r"(probe_p)::"memory"); \
        probe_p;                                        \
    })

size_t probe_page(void);
/* Resident bytes of this process: all of it, and what is anonymous (not files). What was swapped
 * out counts as well. */
size_t probe_resident(void);
size_t probe_anonymous(void);
/* Address space in bytes. */
size_t probe_mapped(void);
/* Page faults so far that needed no disk. */
size_t probe_faults(void);
uint64_t probe_now_ns(void);
/* Processor time of this process, all threads together; other programs do not make it longer. */
uint64_t probe_worked_ns(void);
/* True if the page of the address is mapped. */
bool probe_is_mapped(const void *address);
/* Write a byte into each page of the block. */
void probe_touch(void *block, size_t bytes);

/* The line of /proc/self/maps that has the address; false if none has. */
struct probe_map {
    uintptr_t start, end;
    char name[64]; /* "[heap]", a path's end, or "" */
};
bool probe_map_of(const void *address, struct probe_map *map);
/* Calls the function for each line, in address order. */
void probe_each_map(void (*each)(void *arg, const struct probe_map *map, const char *permissions),
                    void *arg);

/* Run a function in a child, which starts with the memory that this process has now, and return
 * what it returned. Ends the program if the child fails. */
double probe_in_child(double (*function)(size_t argument), size_t argument);

#endif
