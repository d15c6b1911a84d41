/*
 * os.h - the whole contract with the kernel.
 *
 * Functions that can fail return 0 or an errno value and never touch errno themselves. None ever
 * unmaps or replaces memory that is not its argument: the kernel may unmap a fixed address and then
 * refuse to map it, so calls ask for a fixed address only where no mapping is. After a failure of
 * protect, commit or purge a front part of the range may be changed already; after a failure of any
 * other function, nothing is changed. Addresses and sizes are multiples of LU_OS_PAGE unless said
 * otherwise. None allocates; all are thread safe. tests/ replaces them one by one to make them fail
 * (os_fault.c).
 */
#ifndef LU_OS_H
#define LU_OS_H

#include "base/base.h"

/* The kernel's page: 4, 16 or 64 KiB, a property of the running system. Everything that is passed
 * to the kernel is made of such pages. What the library decides for itself alone, such as which
 * part of a slice to use next, may count in the smallest. */
#define LU_OS_PAGE (lu__os_page())
#define LU_OS_PAGE_LEAST ((size_t)4096)
#define LU_OS_PAGE_MOST ((size_t)65536) /* a slice */

extern size_t lu__os_page_bytes; /* atomic; 0 until it was read */
size_t lu__os_page_read(void);
LU_INLINE size_t lu__os_page(void) {
    size_t page = __atomic_load_n(&lu__os_page_bytes, __ATOMIC_RELAXED);
    return LU_LIKELY(page != 0) ? page : lu__os_page_read();
}

/* Reserve address space without access, aligned to `align` (a power of two >= LU_OS_PAGE). */
int lu__os_reserve(size_t size, size_t align, void **out) LU_MUST_CHECK;
/* A fresh writable zero mapping at `at`. EEXIST: there is another mapping. */
int lu__os_claim(void *at, size_t size) LU_MUST_CHECK;
/* An address among those where the kernel puts mappings; 0 if there is no memory. */
uintptr_t lu__os_place(void);
/* Make reserved or protected memory readable and writable. It reads as zero, or as before. */
int lu__os_commit(void *at, size_t size) LU_MUST_CHECK;
/* Give the pages back; the memory stays writable and reads as zero afterwards. */
int lu__os_purge(void *at, size_t size) LU_MUST_CHECK;
/* Bit 0 of there[i] says whether page i is resident. */
int lu__os_resident(const void *at, size_t size, unsigned char *there) LU_MUST_CHECK;
/* As lu__os_purge for many ranges. Returns how many, from the first, were purged. */
struct lu__os_range {
    void *at;
    size_t size;
};
size_t lu__os_purge_many(const struct lu__os_range *ranges, size_t count) LU_MUST_CHECK;
/* A fresh writable zero mapping. */
int lu__os_map(size_t size, size_t align, void **out) LU_MUST_CHECK;
/* One fresh writable page that is zero in a copy of the process (fork, clone without CLONE_VM).
 * EINVAL: the system does not support it. */
int lu__os_map_wiped(void **out) LU_MUST_CHECK;
/* Give address space back; works on any part of what reserve or map returned. */
int lu__os_unmap(void *at, size_t size);
/* Resize a mapping from lu__os_map or lu__os_move_out, moving it if it must be; a failure leaves it
 * as it was. */
int lu__os_remap(void *at, size_t old_size, size_t new_size, void **out) LU_MUST_CHECK;
/* Move the pages of [from, from+size), writable memory, to a mapping of their own, if possible with
 * addresses free behind it up to `room` >= size; `from` stays mapped and reads as zero. A failure
 * changes nothing. It fails where the system cannot do it, and where memory is locked (mlock),
 * because moving would unlock the part that stays. */
int lu__os_move_out(void *from, size_t size, size_t room, void **out) LU_MUST_CHECK;
/* True if no other thread and no other process has this memory; false also if that cannot be known
 * (a seccomp filter; a process that reads /proc). */
bool lu__os_alone(void);
/* Forbid all access. */
int lu__os_protect(void *at, size_t size) LU_MUST_CHECK;

uint64_t lu__os_now_ms(void); /* monotonic, coarse                     */
/* 64 random bits, different at every call and in every process (but a forked child continues the
 * sequence of its parent). Some of the numbers reveal nothing about the others. */
uint64_t lu__os_random(void);
/* The lower one of this process's limits for addresses and for data, in bytes; SIZE_MAX when
 * neither is limited. */
size_t lu__os_address_space_limit(void);
/* System calls for memory made so far (relaxed count). */
size_t lu__os_call_count(void);

/* Wait while *word == value (futex), for at most LU_OS_WAIT_MS, because the thread that should wake
 * the waiter may not exist (process.c); may return early. True: it waited for that time. Wake one
 * or all waiters. */
#define LU_OS_WAIT_MS 100u
bool lu__os_wait(const uint32_t *word, uint32_t value);
void lu__os_wake(const uint32_t *word, bool all);

/* write(2) of all bytes, errors ignored; keeps errno. */
void lu__os_write(int fd, const char *text, size_t length);

#endif
