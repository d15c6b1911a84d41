/* format.h - text without allocation, locale or stdio: into a fixed buffer, or to a descriptor. */
#ifndef LU_FORMAT_H
#define LU_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* A bounded text buffer; bytes that do not fit are counted but not written. Terminated at all
 * times, unless the buffer has no byte at all. */
struct lu__text {
    char *at;    /* where the next byte goes                  */
    size_t room; /* bytes at `at`, terminator included        */
    size_t need; /* length of the whole text, as if it fitted */
};

void lu__text_init(struct lu__text *text, char *buffer, size_t buffer_bytes);
/* %s %c %d %u %x %ld %lu %lx %zu %zx %p %% and nothing else; widths and precisions are not
 * supported. %s of NULL gives "(null)"; %p gives 0x and hexadecimal digits, 0x0 for NULL. */
void lu__text_add(struct lu__text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void lu__text_addv(struct lu__text *text, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* One write(2) of at most 511 bytes to `fd`, errors ignored; a longer text is cut and ends in a
 * newline. Keeps errno. */
void lu__print(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Digits with an optional suffix K, M, G or T in either case (powers of 1024). False for any other
 * text, and for a number that does not fit size_t. */
_Bool lu__parse_bytes(const char *text, size_t length, size_t *out);

#endif
