/* void coro_swap(void **save_sp, void *load_sp): AAPCS64 6.1: x19-x30 and the low halves of
 * v8-v15 belong to the caller. */
#if defined(__aarch64__) && !defined(DOORMAN_UCONTEXT)
        .text
        .globl  coro_swap
        .type   coro_swap, %function
        .p2align 4
coro_swap:
        .cfi_startproc
        hint    #34
        sub     sp, sp, #160
        stp     x19, x20, [sp]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        ldp     x19, x20, [sp]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #160
        ret
        .cfi_endproc
        .size   coro_swap, .-coro_swap

/* First frame of a coroutine: function in x19, argument in x20; never returns. */
        .globl  coro_entry
        .type   coro_entry, %function
        .p2align 4
coro_entry:
        .cfi_startproc
        .cfi_undefined x30
        hint    #36
        mov     x29, #0
        mov     x30, #0
        mov     x0, x20
        blr     x19
        brk     #0
        .cfi_endproc
        .size   coro_entry, .-coro_entry
#endif
        .section .note.GNU-stack,"",%progbits
