/* dlopen_aarch64.h - the way through dlopen on aarch64; see dlopen.c. */
#ifndef LU_DLOPEN_AARCH64_H
#define LU_DLOPEN_AARCH64_H

__asm__(".text\n"
        ".p2align 4\n"
        ".globl dlopen\n"
        ".type dlopen, %function\n"
        "dlopen:\n"
        "    .cfi_startproc\n"
        "    hint 34\n" /* bti c */
        "    stp x29, x30, [sp, -32]!\n"
        "    .cfi_def_cfa_offset 32\n"
        "    .cfi_offset 29, -32\n"
        "    .cfi_offset 30, -24\n"
        "    mov x29, sp\n"
        "    str x0, [sp, 16]\n"
        "    mov w0, w1\n"
        "    bl lu__dlopen_onward\n" /* x0: the next dlopen, x1: the mode for it */
        "    mov x16, x0\n"          /* a register from which a jump may land on bti c */
        "    ldr x0, [sp, 16]\n"
        "    ldp x29, x30, [sp], 32\n"
        "    .cfi_restore 30\n"
        "    .cfi_restore 29\n"
        "    .cfi_def_cfa_offset 0\n"
        "    br x16\n"
        "    .cfi_endproc\n"
        ".size dlopen, .-dlopen\n");

#endif
