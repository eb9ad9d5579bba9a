#include "runtime/crash.h"

#include "runtime/safe_text.h"

#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FRAMES_MAX = 64, HANDLER_STACK_BYTES = 128 << 10, REPORT_SECONDS = 5 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static const struct {
    int number;
    const char *name;
} signals[] = {
    {SIGABRT, "SIGABRT"},
#ifndef SANITIZED
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGFPE, "SIGFPE"}, {SIGILL, "SIGILL"},
#endif
};

static crash_reporter *reporter; /* atomic */
static int failing_thread;       /* atomic: its kernel id, 0 while all is well */
static _Thread_local void *handler_stack;

static const char *signal_name(int number)
{
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        if (signals[i].number == number)
            return signals[i].name;
    }
    return "signal";
}

static void restore_default(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t set;

    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void report(int number, const siginfo_t *info)
{
    void *frames[FRAMES_MAX];
    struct safe_text t;

    t.len = 0;
    safe_text_add(&t, "\npg_doorman failed with ");
    safe_text_add(&t, signal_name(number));
    if (number != SIGABRT) {
        safe_text_add(&t, " at address ");
        safe_text_hex(&t, (uint64_t)(uintptr_t)info->si_addr);
    }
    safe_text_add(&t, " in thread ");
    safe_text_decimal(&t, (uint64_t)syscall(SYS_gettid));
    safe_text_add(&t, " of process ");
    safe_text_decimal(&t, (uint64_t)getpid());
    safe_text_add(&t, "\n");
    safe_text_write(&t, STDERR_FILENO);

    int count = backtrace(frames, FRAMES_MAX);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    crash_reporter *dump = __atomic_load_n(&reporter, __ATOMIC_ACQUIRE);
    if (dump != NULL)
        dump(STDERR_FILENO);
}

static void handle(int number, siginfo_t *info, void *context)
{
    int self = (int)syscall(SYS_gettid);
    int nobody = 0;

    (void)context;
    if (!__atomic_compare_exchange_n(&failing_thread, &nobody, self, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        /* `nobody` is now who was first. The report itself failing ends it here. */
        while (nobody != self)
            pause();
    } else {
        /* A report that hangs, on a lock or a full pipe, must not keep a dead process around. */
        restore_default(SIGALRM);
        alarm(REPORT_SECONDS);
        report(number, info);
        alarm(0);
    }
    restore_default(number);
    raise(number);
}

void crash_thread_begin(void)
{
    stack_t stack = {.ss_size = HANDLER_STACK_BYTES};

    if (handler_stack != NULL)
        return;
    stack.ss_sp = mmap(NULL, HANDLER_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return; /* the handler then runs on the thread's own stack */
    if (sigaltstack(&stack, NULL) != 0) {
        munmap(stack.ss_sp, HANDLER_STACK_BYTES);
        return;
    }
    handler_stack = stack.ss_sp;
}

void crash_thread_end(void)
{
    stack_t none = {.ss_flags = SS_DISABLE};

    if (handler_stack == NULL)
        return;
    sigaltstack(&none, NULL);
    munmap(handler_stack, HANDLER_STACK_BYTES);
    handler_stack = NULL;
}

void crash_on_report(crash_reporter *wanted)
{
    __atomic_store_n(&reporter, wanted, __ATOMIC_RELEASE);
}

void crash_install(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    void *frame;

    /* Its first call loads a library, which a handler must not do. */
    (void)backtrace(&frame, 1);
    crash_thread_begin();
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        sigaction(signals[i].number, &action, NULL);
}
