/* catch_x86_64.h - the frame of lu__cxx_catch_all on x86-64; see cxx.c. */
#ifndef LU_CATCH_X86_64_H
#define LU_CATCH_X86_64_H

#define LU_EXCEPTION_REGISTER 0 /* DWARF's number of rax: where the landing expects the exception */

__asm__(".text\n"
        ".p2align 4\n"
        ".globl lu__cxx_catch_all\n"
        ".hidden lu__cxx_catch_all\n"
        ".type lu__cxx_catch_all, @function\n"
        "lu__cxx_catch_all:\n"
        "    .cfi_startproc\n"
        "    .cfi_personality 0x1b, lu__cxx_personality\n" /* 0x1b: relative, 4 bytes */
        "    endbr64\n"
        "    subq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    movq %rdi, %rax\n"
        "    movq %rsi, %rdi\n"
        "    movq %rdx, %rsi\n"
        "    call *%rax\n"
        ".globl lu__cxx_returned\n"
        ".hidden lu__cxx_returned\n"
        "lu__cxx_returned:\n"
        "    jmp 1f\n"
        ".globl lu__cxx_landing\n"
        ".hidden lu__cxx_landing\n"
        "lu__cxx_landing:\n" /* rax: the exception */
        "    endbr64\n"
        "    movq %rax, %rdi\n"
        "    call lu__cxx_swallow\n"
        "    xorl %eax, %eax\n"
        "1:  addq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size lu__cxx_catch_all, .-lu__cxx_catch_all\n");

#endif
