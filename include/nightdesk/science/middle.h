/* The middle values of a few, by networks: each step compares two rows of values, many pixels at once.
 *
 * Where processors have vectors of 8 or 4 doubles these are named, for no compiler finds them in so many steps: up to
 * 32 values then stay in registers from the first step to the last. All ways give the same bits.
 */
#ifndef NIGHTDESK_MIDDLE_H
#define NIGHTDESK_MIDDLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "networks.h"

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define HAS_VECTORS 1
#include <immintrin.h>
#else
#define HAS_VECTORS 0
#endif

#define TILE 64

typedef double lanes[TILE];

/* One step of a network: the smaller of two rows to `a`, the larger to `b`. `kind` 1 needs the smaller alone, 2 the
 * larger. */
typedef struct {
    int32_t a, b, kind;
} step;

/* So many rows of a tile, of zeros, where vectors lie whole in a line of the cache; NULL if there is no room. */
static lanes *tile_rows(ptrdiff_t n)
{
    const size_t size = (size_t)n * sizeof(lanes);
#if HAS_VECTORS
    lanes *rows = aligned_alloc(sizeof(lanes), size);
#else
    lanes *rows = malloc(size);
#endif
    return rows ? memset(rows, 0, size) : NULL;
}

#define BOTH(a, b)                                                                                                     \
    {                                                                                                                  \
        const VECTOR p = v[a], q = v[b];                                                                               \
        v[a] = LESS(p, q);                                                                                             \
        v[b] = MORE(q, p);                                                                                             \
    }
#define SMALLER(a, b) v[a] = LESS(v[a], v[b]);
#define LARGER(a, b) v[b] = MORE(v[b], v[a]);
#define MIDDLE_OF(n)                                                                                                   \
    case n:                                                                                                            \
        for (ptrdiff_t x = 0; x < size; x += WIDE) {                                                                   \
            const ptrdiff_t at = x + WIDE <= size ? x : size - WIDE; /* the last ones may be done twice */             \
            VECTOR v[n];                                                                                               \
            for (int i = 0; i < n; i++)                                                                                \
                v[i] = LOAD(values + i * stride + at);                                                                 \
            NETWORK_##n                                                                                                \
            STORE(lower + at, v[(n - 1) / 2]);                                                                         \
            STORE(upper + at, v[n / 2]);                                                                               \
        }                                                                                                              \
        return 1;

/* `few`: the two middle values of up to `most` and of WIDE pixels or more; 0 if there are more values, or less pixels.
 * `many`: the steps of a network on the rows of a tile. */
#define WAY_OF(few, many, isa, most)                                                                                   \
    isa static int few(const double *restrict values, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t size,                   \
                       double *restrict lower, double *restrict upper)                                                 \
    {                                                                                                                  \
        if (n > most || size < WIDE)                                                                                   \
            return 0;                                                                                                  \
        switch (n) {                                                                                                   \
            EACH_NETWORK(MIDDLE_OF)                                                                                    \
        default:                                                                                                       \
            return 0;                                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    isa static void many(lanes *restrict rows, const step *steps, ptrdiff_t count)                                     \
    {                                                                                                                  \
        for (ptrdiff_t k = 0; k < count; k++) {                                                                        \
            double *restrict low = rows[steps[k].a], *restrict high = rows[steps[k].b];                                \
            if (steps[k].kind == 0)                                                                                    \
                for (int x = 0; x < TILE; x += WIDE) {                                                                 \
                    const VECTOR p = LOAD(low + x), q = LOAD(high + x);                                                \
                    STORE(low + x, LESS(p, q));                                                                        \
                    STORE(high + x, MORE(q, p));                                                                       \
                }                                                                                                      \
            else if (steps[k].kind == 1)                                                                               \
                for (int x = 0; x < TILE; x += WIDE)                                                                   \
                    STORE(low + x, LESS(LOAD(low + x), LOAD(high + x)));                                               \
            else                                                                                                       \
                for (int x = 0; x < TILE; x += WIDE)                                                                   \
                    STORE(high + x, MORE(LOAD(high + x), LOAD(low + x)));                                              \
        }                                                                                                              \
    }

#if HAS_VECTORS
#define VECTOR __m128d
#define WIDE 2
#define LOAD _mm_loadu_pd
#define STORE _mm_storeu_pd
#define LESS _mm_min_pd
#define MORE _mm_max_pd
WAY_OF(few_by_two, many_by_two, , 16)
#undef VECTOR
#undef WIDE
#undef LOAD
#undef STORE
#undef LESS
#undef MORE

#define VECTOR __m256d
#define WIDE 4
#define LOAD _mm256_loadu_pd
#define STORE _mm256_storeu_pd
#define LESS _mm256_min_pd
#define MORE _mm256_max_pd
WAY_OF(few_by_four, many_by_four, __attribute__((target("avx2"))), 32)
#undef VECTOR
#undef WIDE
#undef LOAD
#undef STORE
#undef LESS
#undef MORE

#define VECTOR __m512d
#define WIDE 8
#define LOAD _mm512_loadu_pd
#define STORE _mm512_storeu_pd
#define LESS _mm512_min_pd
#define MORE _mm512_max_pd
WAY_OF(few_by_eight, many_by_eight, __attribute__((target("avx512f"))), 32)
#else
#define VECTOR double
#define WIDE 1
#define LOAD(from) (*(from))
#define STORE(to, value) (*(to) = (value))
#define LESS(p, q) ((p) < (q) ? (p) : (q))
#define MORE(p, q) ((p) > (q) ? (p) : (q))
WAY_OF(few_by_one, many_by_one, , 16)
#endif

#if HAS_VECTORS
static int widest = 8;

/* How many doubles a vector has: what the processor can, and no more than was asked for. */
static int wide(void)
{
    if (widest >= 8 && __builtin_cpu_supports("avx512f"))
        return 8;
    return widest >= 4 && __builtin_cpu_supports("avx2") ? 4 : 2;
}
#endif

/* The two middle values of each of `size` pixels; 0 if there are more values than stay in registers. */
static int middle_of_few(const double *restrict values, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t size,
                         double *restrict lower, double *restrict upper)
{
#if HAS_VECTORS
    switch (wide()) {
    case 8:
        return few_by_eight(values, stride, n, size, lower, upper);
    case 4:
        return few_by_four(values, stride, n, size, lower, upper);
    default:
        return few_by_two(values, stride, n, size, lower, upper);
    }
#else
    return few_by_one(values, stride, n, size, lower, upper);
#endif
}

/* The steps of a network on the rows of a tile. */
static void run_network(lanes *restrict rows, const step *steps, ptrdiff_t count)
{
#if HAS_VECTORS
    switch (wide()) {
    case 8:
        many_by_eight(rows, steps, count);
        break;
    case 4:
        many_by_four(rows, steps, count);
        break;
    default:
        many_by_two(rows, steps, count);
    }
#else
    many_by_one(rows, steps, count);
#endif
}

/* The two middle values of each pixel of a tile to their places. */
static void middle_of_tile(lanes *restrict rows, ptrdiff_t n, const step *steps, ptrdiff_t count)
{
    double lower[TILE], upper[TILE];
    if (!middle_of_few(rows[0], TILE, n, TILE, lower, upper)) {
        run_network(rows, steps, count);
        return;
    }
    memcpy(rows[(n - 1) / 2], lower, sizeof lower);
    memcpy(rows[n / 2], upper, sizeof upper);
}

#endif
