/*
 * realloc_growth.c - vectors and strings that grow by realloc.
 *
 * Half of the vectors grow by half of their capacity, as std::vector and most languages do, up to
 * some MiB; the others by 64 bytes at a time, as careless code does, up to 16 KiB. A vector that
 * is full is checked from end to end, shrunk to a quarter by realloc, and grows again. An
 * allocator gains by growing in place and by moving pages instead of bytes.
 */
#include "common.h"

enum { VECTORS = 48, APPENDS = 9000000, STEP = 64, STEPPED_MOST = 16 << 10 };

struct vector {
    unsigned char *at;
    size_t length, capacity, most;
    bool geometric;
};

static unsigned char byte_at(size_t index) {
    return (unsigned char)(index * 31 + (index >> 8));
}

static void resize(struct vector *vector, size_t capacity) {
    unsigned char *at = realloc(vector->at, capacity);
    if (at == NULL) bench_fail("no memory");
    vector->at = at;
    vector->capacity = capacity;
}

static void check(const struct vector *vector) {
    for (size_t i = 0; i < vector->length; i++)
        if (vector->at[i] != byte_at(i)) bench_fail("realloc lost data");
}

/* Returns how often realloc was called. */
static unsigned append(struct vector *vector, unsigned count) {
    unsigned resizes = 0;
    if (vector->length + count > vector->most) {
        check(vector);
        vector->length /= 4;
        resize(vector, vector->length + STEP);
        resizes++;
    }
    while (vector->length + count > vector->capacity) {
        size_t more = vector->geometric ? vector->capacity / 2 + 16 : STEP;
        resize(vector, vector->capacity + more);
        resizes++;
    }
    for (unsigned i = 0; i < count; i++) {
        vector->at[vector->length] = byte_at(vector->length);
        vector->length++;
    }
    bench_escape(vector->at);
    return resizes;
}

int main(int argc, char **argv) {
    static struct vector vectors[VECTORS];
    struct bench bench;
    bench_init(&bench, "realloc_growth", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t appends = bench_scaled(&bench, APPENDS), resizes = 0;

    bench_start(&bench);
    for (size_t v = 0; v < VECTORS; v++) {
        vectors[v].geometric = v % 2 == 0;
        vectors[v].most = vectors[v].geometric ? (size_t)1 << (10 + v / 4) : STEPPED_MOST;
    }
    for (uint64_t i = 0; i < appends; i++) {
        struct vector *vector = &vectors[bench_random_below(&random, VECTORS)];
        resizes += append(vector, 1 + (unsigned)bench_random_below(&random, 48));
    }
    for (size_t v = 0; v < VECTORS; v++) {
        check(&vectors[v]);
        free(vectors[v].at);
    }
    bench_stop(&bench);
    bench_report(&bench, resizes);
    return 0;
}
