/* stack.h - stack walks without allocation, and what an address of code belongs to. */
#ifndef LU_STACK_H
#define LU_STACK_H

#include "base/violation.h"

/* Before the others; again, it changes nothing. */
void lu__stack_init(void);
/* Return addresses of the callers, the nearest first and without those in lucid itself (unless it
 * is linked into the program's own file); how many. */
unsigned lu__stack_here(uintptr_t *frames, unsigned most);
/* Where the program called lucid, for violations (base/violation.h). Unknown where the stack cannot
 * be walked; without an address, but told apart by the stack, where lucid is linked into the
 * program's own file. */
struct lu__place lu__stack_place(void);
/* As lu__stack_here from the registers of an interrupted place, itself the first. For signal
 * handlers. */
struct lu__registers {
    uintptr_t pc, sp, fp;
    uintptr_t lr; /* where calls leave the return address; 0 if that is the stack */
};
unsigned lu__stack_from(const struct lu__registers *from, uintptr_t *frames, unsigned most);
/* The file that was loaded at `address`, *name "" for the program itself, and the address in the
 * terms of the file. False if that cannot be known. */
bool lu__stack_module(uintptr_t address, const char **name, uintptr_t *offset);

#endif
