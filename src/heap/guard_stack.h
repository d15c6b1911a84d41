/* guard_stack.h - stack walks without allocation, and what an address of code belongs to. */
#ifndef LU_GUARD_STACK_H
#define LU_GUARD_STACK_H

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

/* ---------------------------------------------------------------- guard_cfi.c */

/* How the caller's registers are found from a frame's own: its CFA is a register plus cfa_offset,
 * the word there if `deref`; the return address lies ra_offset from the CFA, the frame pointer
 * fp_offset from it or from the frame's own frame pointer. */
enum cfa_base { CFA_OF_SP, CFA_OF_FP, CFA_UNKNOWN };
enum fp_place { FP_SAME, FP_AT_CFA, FP_AT_FP, FP_LOST };
struct lu__frame_rule {
    int32_t cfa_offset;
    int16_t ra_offset, fp_offset;
    uint8_t cfa_base; /* enum cfa_base */
    uint8_t deref;
    uint8_t fp_place; /* enum fp_place */
    uint8_t ra_known; /* 0: the outermost frame, or not saved yet */
};
/* The rule at the instruction `pc`; false: none is known. `table`: the module's .eh_frame_hdr. */
bool lu__frame_rule_find(const void *table, uintptr_t pc, struct lu__frame_rule *rule);

#endif
