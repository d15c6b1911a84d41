/* catch_aarch64.h - the frame of lu__cxx_catch_all on aarch64; see cxx.c. */
#ifndef LU_CATCH_AARCH64_H
#define LU_CATCH_AARCH64_H

#define LU_EXCEPTION_REGISTER 0 /* DWARF's number of x0: where the landing expects the exception */

__asm__(".text\n"
        ".p2align 4\n"
        ".globl lu__cxx_catch_all\n"
        ".hidden lu__cxx_catch_all\n"
        ".type lu__cxx_catch_all, %function\n"
        "lu__cxx_catch_all:\n"
        "    .cfi_startproc\n"
        "    .cfi_personality 0x1b, lu__cxx_personality\n" /* 0x1b: relative, 4 bytes */
        "    hint 34\n"                                    /* bti c */
        "    stp x29, x30, [sp, -16]!\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset 29, -16\n"
        "    .cfi_offset 30, -8\n"
        "    mov x29, sp\n"
        "    mov x9, x0\n"
        "    mov x0, x1\n"
        "    mov x1, x2\n"
        "    blr x9\n"
        ".globl lu__cxx_returned\n"
        ".hidden lu__cxx_returned\n"
        "lu__cxx_returned:\n"
        "    b 1f\n"
        ".globl lu__cxx_landing\n"
        ".hidden lu__cxx_landing\n"
        "lu__cxx_landing:\n" /* x0: the exception */
        "    hint 36\n"      /* bti j */
        "    bl lu__cxx_swallow\n"
        "    mov x0, 0\n"
        "1:  ldp x29, x30, [sp], 16\n"
        "    .cfi_restore 30\n"
        "    .cfi_restore 29\n"
        "    .cfi_def_cfa_offset 0\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size lu__cxx_catch_all, .-lu__cxx_catch_all\n");

#endif
