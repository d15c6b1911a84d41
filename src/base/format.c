/*
 * format.c - text without allocation, locale or stdio.
 *
 * An allocator cannot use stdio for its messages: stdio allocates its buffers, takes locks, and may
 * be in the middle of a call when the message is needed. This is the small part of printf that
 * messages and JSON need, written into a buffer that the caller owns:
 *
 *     buffer  [ t e x t \0 . . . . . ]      at   -> the \0
 *                       ^at               room == bytes from `at` to the end, the \0 included
 *                                         need == bytes that the whole text has had so far
 *
 * Invariants: *at == 0 whenever room > 0; room falls to 1 and stays there once the buffer is full,
 * while need goes on counting, so that the caller learns how large a buffer the text needs.
 *
 * Nothing here keeps state, so every function may be called from any thread, under any lock and in
 * a signal handler.
 */
#include "base/format.h"

#include "base/base.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

enum { PRINT_BYTES = 512, DIGITS_MAX = 20 /* of 2^64 in decimal */ };

void lu__text_init(struct lu__text *text, char *buffer, size_t buffer_bytes) {
    text->at = buffer;
    text->room = buffer_bytes;
    text->need = 0;
    if (buffer_bytes > 0) *buffer = '\0';
}

static void add_char(struct lu__text *text, char c) {
    text->need++;
    if (text->room <= 1) return;
    *text->at++ = c;
    *text->at = '\0';
    text->room--;
}

static void add_string(struct lu__text *text, const char *string) {
    if (string == NULL) string = "(null)";
    while (*string != '\0') add_char(text, *string++);
}

static void add_number(struct lu__text *text, uint64_t value, unsigned base) {
    char digits[DIGITS_MAX];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    while (count > 0) add_char(text, digits[--count]);
}

static void add_signed(struct lu__text *text, int64_t value) {
    if (value < 0) add_char(text, '-');
    add_number(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
}

/* A conversion of a long or size_t, both 64 bits wide: `spec` is the letter after the l or z. */
static bool add_wide(struct lu__text *text, char spec, va_list *args) {
    switch (spec) {
    case 'd':
        add_signed(text, va_arg(*args, long));
        return true;
    case 'u':
        add_number(text, va_arg(*args, unsigned long), 10);
        return true;
    case 'x':
        add_number(text, va_arg(*args, unsigned long), 16);
        return true;
    default:
        return false;
    }
}

/* A conversion without a length; `spec` is the letter after the percent sign. */
static bool add_plain(struct lu__text *text, char spec, va_list *args) {
    switch (spec) {
    case 's':
        add_string(text, va_arg(*args, const char *));
        return true;
    case 'c':
        add_char(text, (char)va_arg(*args, int));
        return true;
    case 'd':
        add_signed(text, va_arg(*args, int));
        return true;
    case 'u':
        add_number(text, va_arg(*args, unsigned), 10);
        return true;
    case 'x':
        add_number(text, va_arg(*args, unsigned), 16);
        return true;
    case 'p':
        add_string(text, "0x");
        add_number(text, (uintptr_t)va_arg(*args, const void *), 16);
        return true;
    case '%':
        add_char(text, '%');
        return true;
    default:
        return false;
    }
}

void lu__text_addv(struct lu__text *text, const char *format, va_list args) {
    va_list left; /* a copy, since a va_list parameter has no portable address */
    va_copy(left, args);
    while (*format != '\0') {
        if (*format != '%') {
            add_char(text, *format++);
            continue;
        }
        bool wide = format[1] == 'l' || format[1] == 'z';
        const char *spec = format + (wide ? 2 : 1);
        bool known = wide ? add_wide(text, *spec, &left) : add_plain(text, *spec, &left);
        if (!known) { /* a mistake in lucid: show the rest as it stands, the arguments are lost */
            add_string(text, format);
            break;
        }
        format = spec + 1;
    }
    va_end(left);
}

void lu__text_add(struct lu__text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lu__text_addv(text, format, args);
    va_end(args);
}

void lu__print(int fd, const char *format, ...) {
    char buffer[PRINT_BYTES];
    struct lu__text text;
    va_list args;
    lu__text_init(&text, buffer, sizeof buffer);
    va_start(args, format);
    lu__text_addv(&text, format, args);
    va_end(args);

    size_t length = LU_MIN(text.need, sizeof buffer - 1);
    if (text.need > length) buffer[length - 1] = '\n';
    int saved = errno;
    ssize_t written = write(fd, buffer, length);
    (void)written; /* an error cannot be reported anywhere */
    errno = saved;
}

/* Bits by which a suffix shifts the number before it; 0 if the character is not a suffix. */
static unsigned suffix_shift(char suffix) {
    switch (suffix) {
    case 'K':
    case 'k':
        return 10;
    case 'M':
    case 'm':
        return 20;
    case 'G':
    case 'g':
        return 30;
    case 'T':
    case 't':
        return 40;
    default:
        return 0;
    }
}

_Bool lu__parse_bytes(const char *text, size_t length, size_t *out) {
    unsigned shift = length > 0 ? suffix_shift(text[length - 1]) : 0;
    size_t digits = shift != 0 ? length - 1 : length;
    size_t value = 0;
    if (digits == 0) return false;
    for (size_t i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        if (__builtin_mul_overflow(value, (size_t)10, &value) ||
            __builtin_add_overflow(value, (size_t)(text[i] - '0'), &value))
            return false;
    }
    if (value > SIZE_MAX >> shift) return false;
    *out = value << shift;
    return true;
}
