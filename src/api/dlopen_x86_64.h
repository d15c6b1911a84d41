/* dlopen_x86_64.h - the way through dlopen on x86-64; see dlopen.c. */
#ifndef LU_DLOPEN_X86_64_H
#define LU_DLOPEN_X86_64_H

__asm__(".text\n"
        ".p2align 4\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        "dlopen:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    pushq %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    movl %esi, %edi\n"
        "    call lu__dlopen_onward\n" /* rax: the next dlopen, rdx: the mode for it */
        "    popq %rdi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    movl %edx, %esi\n"
        "    jmp *%rax\n"
        "    .cfi_endproc\n"
        ".size dlopen, .-dlopen\n");

#endif
