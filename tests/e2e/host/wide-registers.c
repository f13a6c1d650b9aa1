/* For machines whose processors have AMX: without this, User-mode Linux 6.1 can start no process there.
 *
 * It sets the floating-point registers of a process from a buffer of 2,696 bytes (all up to PKRU), and the machine's kernel takes
 * a whole one only: 11,008 bytes with AMX's tiles. Loaded before the C library (LD_PRELOAD), this fills the buffer up. Tiles
 * are left in their initial state: a process has none that did not ask for them, and in a guest none can.
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

#define LARGEST 65536
#define STATE_COMPONENTS_AT 512 /* in an XSAVE area: which components are not in their initial state */
#define COMPONENTS_UP_TO_PKRU 0x2ffULL

static long (*libc_ptrace)(int, ...);

/* How large the whole is on this machine; the kernel says so when it is asked for more. */
static size_t whole_size(pid_t pid)
{
    static size_t size;
    static unsigned char area[LARGEST];
    struct iovec all = {area, sizeof area};

    if (size == 0 && libc_ptrace(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &all) == 0)
        size = all.iov_len;
    return size;
}

static long set_whole(pid_t pid, const struct iovec *given)
{
    static __thread unsigned char area[LARGEST];
    struct iovec all = {area, whole_size(pid)};
    uint64_t components;

    memcpy(area, given->iov_base, given->iov_len);
    memcpy(&components, area + STATE_COMPONENTS_AT, sizeof components);
    components &= COMPONENTS_UP_TO_PKRU;
    memcpy(area + STATE_COMPONENTS_AT, &components, sizeof components);
    return libc_ptrace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (libc_ptrace == NULL)
        libc_ptrace = dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE) {
        const struct iovec *given = data;
        if (given->iov_len < whole_size(pid))
            return set_whole(pid, given);
    }
    return libc_ptrace(request, pid, address, data);
}
