/*
 * User-Mode Linux on processors with more registers than it knows.
 *
 * Linux 6.1's keeps a process's extended registers in 2,696 bytes, all that AVX-512 needs.  The
 * kernel below takes them only whole, with AMX 11,008 bytes, so the guest would panic at its first
 * process.  Preloaded into linux.uml this completes what it writes with what the process has;
 * what it reads is cut off by the kernel as it should be.
 *
 * Source: arch/x86/kernel/fpu/regset.c (xstateregs_set), arch/x86/um/os-Linux/registers.c,
 * Intel SDM volume 1, section 13.4 (the layout of an XSAVE area).
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define XSTATE_BV_AT 512    /* which components are there, 64 bits */
#define LARGEST (1 << 16)
#define TILES (3ULL << 17)  /* AMX's components, the ones that lie beyond */

typedef long ptrace_call(enum __ptrace_request, pid_t, void *, void *);

/* One is enough: the guest has one processor, and this is not entered again within itself. */
static _Alignas(64) unsigned char whole[LARGEST];

static long set_extended(ptrace_call *next, pid_t pid, void *which, const struct iovec *given)
{
    struct iovec all = {.iov_base = whole, .iov_len = sizeof whole};
    if (next(PTRACE_GETREGSET, pid, which, &all) < 0)
        return -1;
    if (all.iov_len > given->iov_len) {
        uint64_t had, has;
        memcpy(&had, whole + XSTATE_BV_AT, sizeof had);
        memcpy(whole, given->iov_base, given->iov_len);
        memcpy(&has, whole + XSTATE_BV_AT, sizeof has);
        has = (has & ~TILES) | (had & TILES);
        memcpy(whole + XSTATE_BV_AT, &has, sizeof has);
    } else {
        memcpy(whole, given->iov_base, all.iov_len);
    }
    return next(PTRACE_SETREGSET, pid, which, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_call *next;
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (next == NULL)
        next = (ptrace_call *)dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE)
        return set_extended(next, pid, address, data);
    return next(request, pid, address, data);
}
