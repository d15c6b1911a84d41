/*
 * child_calls.c - counts the memory system calls of a command, exactly and at nearly full speed.
 *
 *     child: seccomp filter  ──▶  mmap, munmap, … : SECCOMP_RET_TRACE, with our number for it
 *                                 every other call: SECCOMP_RET_ALLOW, no stop at all
 *     tracer: ptrace         ◀──  PTRACE_EVENT_SECCOMP; adds one to that number's count
 *
 * Threads and children inherit the filter and are attached by the kernel (PTRACE_O_TRACECLONE
 * and its kin), so all are counted. Counting begins when execve has succeeded: what this program
 * does before it in the forked child is not the command's.
 *
 * The tracer is a process of its own, forked for each count. When it ends, the kernel kills what
 * the command left behind (PTRACE_O_EXITKILL); without a tracer these calls would fail in them.
 * The filter needs no_new_privs, so a set-user-ID command runs without its privileges.
 */
#include "run/child.h"

#include "frame/frame.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    unsigned number;
    const char *name;
} memory_calls[CALL_COUNT] = {
    [CALL_MMAP] = {SYS_mmap, "mmap"},
    [CALL_MUNMAP] = {SYS_munmap, "munmap"},
    [CALL_MREMAP] = {SYS_mremap, "mremap"},
    [CALL_BRK] = {SYS_brk, "brk"},
    [CALL_MADVISE] = {SYS_madvise, "madvise"},
    [CALL_PROCESS_MADVISE] = {SYS_process_madvise, "process_madvise"},
    [CALL_MPROTECT] = {SYS_mprotect, "mprotect"},
};

const char *child_call_name(enum memory_call call) {
    return memory_calls[call].name;
}

/* ------------------------------------------------------------------ in the child ------------- */

static int install_filter(void) {
    enum { HEAD = 3, TAIL = 1 };
    struct sock_filter code[HEAD + 2 * CALL_COUNT + TAIL];
    size_t n = 0;
    /* Another instruction set's calls (int 0x80) have other numbers: let them pass. */
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                             offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0,
                                             2 * CALL_COUNT + 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                             offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < CALL_COUNT; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, memory_calls[i].number,
                                                 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | i);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        return errno;
    return 0;
}

/* ------------------------------------------------------------------ the tracer --------------- */

/* What the tracer hands back, in memory that both processes map. */
struct outcome {
    int error; /* nothing could be traced */
    struct child_result result;
    struct child_counts counts;
};

struct tracer {
    pid_t main_child;
    bool started; /* execve has succeeded */
    struct outcome *outcome;
};

static bool is_stop_signal(int number) {
    return number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

static void count_call(struct tracer *tracer, pid_t pid) {
    unsigned long index = CALL_COUNT;
    if (!tracer->started || ptrace(PTRACE_GETEVENTMSG, pid, NULL, &index) != 0) return;
    if (index < CALL_COUNT) {
        tracer->outcome->counts.calls[index]++;
        tracer->outcome->counts.total++;
    }
}

/* One stop of one thread: note it and let the thread go on. A thread may be killed meanwhile, so
 * errors here say nothing. */
static void handle_stop(struct tracer *tracer, pid_t pid, int wait_status) {
    int event = wait_status >> 16;
    int number = WSTOPSIG(wait_status);
    if (event == PTRACE_EVENT_SECCOMP)
        count_call(tracer, pid);
    else if (event == PTRACE_EVENT_EXEC)
        tracer->started = true;
    if (event == PTRACE_EVENT_STOP && is_stop_signal(number)) {
        ptrace(PTRACE_LISTEN, pid, NULL, NULL);
        return;
    }
    unsigned long deliver = event == 0 ? (unsigned long)number : 0;
    ptrace(PTRACE_CONT, pid, NULL, deliver);
}

/* Until the main child has ended; true if it was seen to. */
static bool follow(struct tracer *tracer) {
    for (;;) {
        int wait_status;
        pid_t pid = waitpid(-1, &wait_status, __WALL);
        if (pid < 0 && errno == EINTR) continue;
        if (pid < 0) return false;
        if (WIFSTOPPED(wait_status)) {
            handle_stop(tracer, pid, wait_status);
        } else if (pid == tracer->main_child) {
            child_note_end(&tracer->outcome->result, wait_status);
            return true;
        }
    }
}

static void trace_command(const struct child_plan *plan, struct outcome *outcome) {
    const unsigned long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE |
                                  PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;
    struct child_process process;
    int64_t minor_faults, major_faults;
    bool in_setup;
    child_start(plan, install_filter, &process);
    child_signals_begin(process.pid);
    struct tracer tracer = {.main_child = process.pid, .outcome = outcome};
    outcome->result.pid = process.pid;
    if (ptrace(PTRACE_SEIZE, process.pid, NULL, options) != 0) {
        outcome->error = errno;
        kill(process.pid, SIGKILL);
        return;
    }
    /* The child stops on its way to execve, so its report can only be read afterwards. */
    close(process.release_fd);
    process.release_fd = -1;
    if (!follow(&tracer)) outcome->error = ECHILD;
    int error = child_release(&process, &in_setup, &minor_faults, &major_faults);
    if (error != 0 && in_setup)
        outcome->error = error;
    else if (error != 0)
        child_note_start_error(&outcome->result, error);
}

int child_count_calls(const struct child_plan *plan, struct child_result *result,
                      struct child_counts *counts) {
    struct outcome *outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcome == MAP_FAILED) tool_die("out of memory");
    outcome->error = ECHILD; /* should the tracer end without a word */
    fflush(NULL);
    pid_t tracer = fork();
    if (tracer < 0) tool_die("cannot start a process: %s", strerror(errno));
    if (tracer == 0) {
        outcome->error = 0;
        trace_command(plan, outcome);
        _exit(0);
    }
    child_signals_begin(tracer);
    int wait_status = 0;
    while (waitpid(tracer, &wait_status, 0) < 0 && errno == EINTR) continue;
    child_signals_end();
    int error = outcome->error;
    if (error == 0 && !(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)) error = ECHILD;
    *result = outcome->result;
    *counts = outcome->counts;
    munmap(outcome, sizeof(*outcome));
    return error;
}
