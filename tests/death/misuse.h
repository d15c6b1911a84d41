/*
 * misuse.h - one function per misuse of malloc, in tables by theme.
 *
 * A misuse first tells the runner what it is about to do (misuse_says), as addresses and sizes of
 * which the runner makes the line that must come. It then does it; an allocator without checks
 * survives that or crashes, and either is a failed test.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include <stddef.h>

struct misuse {
    const char *name;
    void (*run)(void);
};

extern const struct misuse misuse_pointer_table[], misuse_double_table[], misuse_other_table[],
    misuse_handler_table[], misuse_hard_table[], misuse_goes_on_table[];

/* Print "pointer=P block=B bytes=N" on stdout. block NULL: there is none to name. */
void misuse_says(const void *pointer, const void *block, size_t bytes);
/* As misuse_says, with the usable size of a live block. */
void misuse_says_of(const void *pointer, void *block);
/* Print a line on stdout. */
void misuse_prints(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* End with status 2 and a message: the program could not do what it is for. */
void misuse_cannot(const char *why) __attribute__((noreturn));

/* malloc that must succeed; the bytes are written. */
void *misuse_block(size_t size);
/* Run fn(arg) in a thread of its own and wait for it. */
void misuse_in_thread(void (*fn)(void *arg), void *arg);
/* The function of that name, which the allocator must have. */
void *misuse_symbol(const char *name);
/* The same pointer, of which the compiler knows nothing. */
void *misuse_hidden(const void *pointer);

#endif
