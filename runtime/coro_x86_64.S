/* void coro_swap(void **save_sp, void *load_sp): System V AMD64 ABI, figure 3.4: rbx, rbp and
 * r12-r15 belong to the caller. MXCSR and the x87 control word are left alone: nothing here
 * changes them. No shadow-stack support is claimed. */
#if defined(__x86_64__) && !defined(DOORMAN_UCONTEXT)
        .text
        .globl  coro_swap
        .type   coro_swap, @function
        .p2align 4
coro_swap:
        .cfi_startproc
        endbr64
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .cfi_endproc
        .size   coro_swap, .-coro_swap

/* First frame of a coroutine: function in r12, argument in r13; never returns. */
        .globl  coro_entry
        .type   coro_entry, @function
        .p2align 4
coro_entry:
        .cfi_startproc
        .cfi_undefined rip
        endbr64
        xorl    %ebp, %ebp
        movq    %r13, %rdi
        callq   *%r12
        ud2
        .cfi_endproc
        .size   coro_entry, .-coro_entry
#endif
        .section .note.GNU-stack,"",@progbits
