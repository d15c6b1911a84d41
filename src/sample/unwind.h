/* unwind.h - the unwind tables of a loaded file; see unwind.c. */
#ifndef LU_UNWIND_H
#define LU_UNWIND_H

#include "base/base.h"

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
