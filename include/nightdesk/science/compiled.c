/* The inner loops of the stack, for those who have a C compiler: see compiled.py, which loads them.
 *
 * Each function gives the bits of its plain numpy version, so nothing here may be reordered: no fused
 * multiply-add (-ffp-contract=off), no fast-math. Values lie frame after frame; what is done to a pixel is
 * done to TILE neighbours at once, which compilers turn into vector instructions.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define MANY_MACHINES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MANY_MACHINES
#endif
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define TILE 64
/* Raised whenever what a function takes or gives changes: an older library, not built anew, is then left alone. */
#define VERSION 3
#define NO_DATA 16
#define SATURATED 4
#define EXCLUDING (1 | 8 | NO_DATA | 64)

typedef double lanes[TILE];

EXPORT int nd_version(void)
{
    return VERSION;
}

/* One step of a network: the smaller of two rows to `a`, the larger to `b`. `kind` 1 needs the smaller alone, 2 the
 * larger. */
typedef struct {
    int32_t a, b, kind;
} step;

static inline __attribute__((always_inline)) void run_network(lanes *restrict rows, const step *steps, ptrdiff_t count)
{
    for (ptrdiff_t k = 0; k < count; k++) {
        double *restrict low = rows[steps[k].a], *restrict high = rows[steps[k].b];
        if (steps[k].kind == 0) {
            for (int x = 0; x < TILE; x++) {
                double p = low[x], q = high[x];
                low[x] = p < q ? p : q;
                high[x] = p < q ? q : p;
            }
        } else if (steps[k].kind == 1) {
            for (int x = 0; x < TILE; x++)
                low[x] = low[x] < high[x] ? low[x] : high[x];
        } else {
            for (int x = 0; x < TILE; x++)
                high[x] = low[x] < high[x] ? high[x] : low[x];
        }
    }
}

/* The two middle values of each pixel. `used` may be NULL; else values that do not count become in turn +inf and
 * -inf, so that the middle of the others stays in the middle of the network. */
EXPORT MANY_MACHINES int nd_middle(const double *values, const uint8_t *used, ptrdiff_t n, ptrdiff_t size,
                                   const step *steps, ptrdiff_t count, double *lower, double *upper)
{
    lanes *rows = malloc((size_t)n * sizeof(lanes));
    if (!rows)
        return 1;
    const ptrdiff_t first = (n - 1) / 2 - (n > 1 && n % 2), second = n % 2 ? (n - 1) / 2 : n / 2;
    for (ptrdiff_t start = 0; start < size; start += TILE) {
        const int width = (int)(size - start < TILE ? size - start : TILE);
        int32_t kept[TILE] = {0};
        int8_t side[TILE] = {0};
        for (ptrdiff_t i = 0; i < n; i++) {
            const double *from = values + i * size + start;
            if (width < TILE)
                memset(rows[i], 0, sizeof(lanes));
            if (!used) {
                memcpy(rows[i], from, (size_t)width * sizeof(double));
                continue;
            }
            const uint8_t *counts = used + i * size + start;
            for (int x = 0; x < width; x++) {
                rows[i][x] = counts[x] ? from[x] : (side[x] ? -INFINITY : INFINITY);
                side[x] ^= (int8_t)!counts[x];
                kept[x] += counts[x] != 0;
            }
        }
        run_network(rows, steps, count);
        for (int x = 0; x < width; x++) {
            const double one = rows[first][x], two = rows[second][x];
            if (!used) {
                lower[start + x] = n % 2 ? two : one;
                upper[start + x] = two;
            } else if (kept[x] == 0) {
                lower[start + x] = upper[start + x] = 0.0;
            } else if (kept[x] % 2 == 0) {
                lower[start + x] = one;
                upper[start + x] = two;
            } else {
                lower[start + x] = upper[start + x] = n % 2 ? two : one;
            }
        }
    }
    free(rows);
    return 0;
}

static inline double count_of(const uint8_t *pair)
{
    uint16_t bits;
    memcpy(&bits, pair, sizeof bits);
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    bits = (uint16_t)(bits << 8 | bits >> 8);
#endif
    return (double)(int16_t)bits;
}

/* A plane of a master as it stands on disk, float or double. */
typedef struct {
    const void *pixels;
    int32_t is_float;
} plane;

/* One value after the other of a row of counts, as the notebook calibrates them. */
#define NOTEBOOK_VALUES(kind)                                                                                          \
    for (int x = 0; x < part; x++) {                                                                                   \
        double electrons =                                                                                             \
            (count_of(raw + 2 * (from + x)) + zero - (double)((const kind *)bias->pixels)[at + x]) * gain;             \
        v[x] = electrons;                                                                                              \
        s[x] = electrons / (double)((const kind *)flat->pixels)[at + x] * factor;                                      \
        o[x] += s[x] - s[x] + (v[x] - v[x]);                                                                           \
    }

/* The notebook's calibration, roll and two medians for a block of rows of the stack.
 *
 * raws[i] are the stored rows of frame i (big-endian int16) which, rolled by dy, become the block's; row[i][r] is the
 * number of the row in its own frame, where its masters are, both float or both double. */
EXPORT MANY_MACHINES int nd_notebook(const uint8_t *const *raws, const int32_t *row, ptrdiff_t n, ptrdiff_t rows,
                                     ptrdiff_t nx, double zero, const plane *bias, const plane *flat,
                                     const double *gains, const double *factors, const int32_t *dx, const step *steps,
                                     ptrdiff_t count, double *data, double *variance, uint8_t *strange)
{
    lanes *signal = malloc((size_t)n * sizeof(lanes)), *noise = malloc((size_t)n * sizeof(lanes));
    if (!signal || !noise) {
        free(signal);
        free(noise);
        return 1;
    }
    const ptrdiff_t first = n % 2 ? (n - 1) / 2 : n / 2 - 1, second = n / 2;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t start = 0; start < nx; start += TILE) {
            const int width = (int)(nx - start < TILE ? nx - start : TILE);
            double odd[TILE] = {0};
            for (ptrdiff_t i = 0; i < n; i++) {
                const uint8_t *raw = raws[i] + 2 * r * nx;
                const double gain = gains[i], factor = factors[i];
                ptrdiff_t from = (start - dx[i]) % nx;
                if (from < 0)
                    from += nx;
                for (int done = 0; done < width;) {
                    const int part = (int)(nx - from < width - done ? nx - from : width - done);
                    const ptrdiff_t at = row[i * rows + r] * nx + from;
                    double *s = signal[i] + done, *v = noise[i] + done, *o = odd + done;
                    if (bias->is_float)
                        NOTEBOOK_VALUES(float)
                    else
                        NOTEBOOK_VALUES(double)
                    done += part;
                    from = 0;
                }
                for (int x = width; x < TILE; x++)
                    signal[i][x] = noise[i][x] = 0.0;
            }
            run_network(signal, steps, count);
            run_network(noise, steps, count);
            double *d = data + r * nx + start, *v = variance + r * nx + start;
            uint8_t *bad = strange + r * nx + start;
            for (int x = 0; x < width; x++) {
                d[x] = n % 2 ? signal[first][x] : (signal[first][x] + signal[second][x]) / 2.0;
                v[x] = (n % 2 ? noise[first][x] : (noise[first][x] + noise[second][x]) / 2.0) / (double)n;
                bad[x] = odd[x] != 0.0; /* some value is no number or infinite */
            }
        }
    free(signal);
    free(noise);
    return 0;
}

/* What is known of a row of a frame's masters, as `Prepared` has it. */
typedef struct {
    const double *pedestal, *pedestal_variance, *thermal, *sensitivity, *inverse_square, *sensitivity_variance;
    const uint16_t *flags;
} masters;

/* What is done to each pixel of a frame. `single` rounds to float32 after each correction, as products on disk do. */
typedef struct {
    double gain, noise_squared, saturation, factor, square;
    double zero, scale, sky;
    int32_t single;
} camera;

/* Bias, gain, flat and extinction for one pixel, its variances and flags, in the order of remove_signature and
 * correct_extinction. */
static inline __attribute__((always_inline)) void calibrate_pixel(double count, const masters *m, ptrdiff_t x,
                                                                  const camera *c, int single, double *data,
                                                                  double *variance, double *shared, uint16_t *flags)
{
    const uint16_t known = m->flags[x];
    const int present = (known & NO_DATA) == 0;
    const double signal = ((present ? count : 0.0) - (present ? m->pedestal[x] : 0.0)) * c->gain;
    double shot = signal + m->thermal[x];
    shot = shot > 0.0 ? shot : 0.0;
    const double independent = (shot + c->noise_squared) * m->inverse_square[x];
    double common = m->pedestal_variance[x] + signal * signal * m->sensitivity_variance[x];
    common = present ? common : 0.0;
    double value = signal / m->sensitivity[x], whole = (present ? independent : 0.0) + common;
    if (single) { /* what a float32 product between the two corrections would have kept */
        value = (double)(float)((double)(float)value * c->factor);
        whole = (double)(float)((double)(float)whole * c->square);
        common = (double)(float)((double)(float)common * c->square);
    } else {
        value *= c->factor;
        whole *= c->square;
        common *= c->square;
    }
    *data = value;
    *variance = whole;
    *shared = common;
    *flags = (uint16_t)(known | (count >= c->saturation ? SATURATED : 0));
}

/* Some neighbours of a row; `single` is a constant where this is called, so that the loop becomes vectors. */
static inline __attribute__((always_inline)) void calibrate_row(const double *restrict counts, ptrdiff_t size,
                                                                const masters *m, ptrdiff_t first, const camera *c,
                                                                int single, double *restrict data,
                                                                double *restrict variance, double *restrict shared,
                                                                uint16_t *restrict flags)
{
    const masters known = *m;
    const camera how = *c;
    for (ptrdiff_t x = 0; x < size; x++)
        calibrate_pixel(counts[x], &known, first + x, &how, single, data + x, variance + x, shared + x, flags + x);
}

EXPORT MANY_MACHINES void nd_calibrate(const double *counts, ptrdiff_t size, const masters *m, const camera *c,
                                       double *data, double *variance, double *shared, uint16_t *flags)
{
    if (c->single)
        calibrate_row(counts, size, m, 0, c, 1, data, variance, shared, flags);
    else
        calibrate_row(counts, size, m, 0, c, 0, data, variance, shared, flags);
}

/* What the easy pixels of a tile need: no value excluded and none that could be clipped. */
typedef struct {
    lanes least, most, quiet, quietest, alone, together, odd;
    uint16_t any[TILE];
} sums;

/* When a pixel is hard. `least_ratio` is by what the variance of any frame can be below the pixel's least one in the
 * prediction. */
typedef struct {
    double clip_sigma, least_ratio, level, tolerance;
    int32_t clip, has_level;
} rule;

static inline __attribute__((always_inline)) void begin_sums(sums *s)
{
    for (int x = 0; x < TILE; x++) {
        s->least[x] = s->quiet[x] = s->quietest[x] = INFINITY;
        s->most[x] = -INFINITY;
        s->alone[x] = s->together[x] = s->odd[x] = 0.0;
        s->any[x] = 0;
    }
}

static inline __attribute__((always_inline)) void add_to_sums(sums *s, double *row, const double *value,
                                                              const double *whole, const double *part,
                                                              const uint16_t *bits, int width)
{
    for (int x = 0; x < width; x++) {
        const double v = value[x], w = whole[x], k = part[x], own = w - k;
        row[x] = v;
        s->least[x] = v < s->least[x] ? v : s->least[x];
        s->most[x] = v > s->most[x] ? v : s->most[x];
        s->quiet[x] = w < s->quiet[x] ? w : s->quiet[x];
        s->quietest[x] = k < s->quietest[x] ? k : s->quietest[x];
        s->odd[x] += (v - v) + (w - w) + (k - k);
        s->alone[x] += own > 0.0 ? own : 0.0;
        s->together[x] += k;
    }
    for (int x = 0; x < width; x++)
        s->any[x] |= bits[x];
}

/* Where results of a tile go. */
typedef struct {
    double *middle, *independent, *common;
    uint16_t *joined;
    uint8_t *hard;
} results;

static inline __attribute__((always_inline)) void judge(const sums *s, const lanes *rows, ptrdiff_t n, const rule *r,
                                                        const results *out, ptrdiff_t start, int width)
{
    const ptrdiff_t first = n % 2 ? (n - 1) / 2 : n / 2 - 1, second = n / 2;
    for (int x = 0; x < width; x++) {
        const double low = rows[first][x], centre = 0.5 * (low + rows[second][x]);
        int doubt = (s->any[x] & EXCLUDING) != 0 || s->odd[x] != 0.0 || s->quiet[x] < 0.0 || s->quietest[x] < 0.0;
        if (r->clip) {
            double allowed = r->clip_sigma * sqrt(s->quiet[x] * r->least_ratio);
            if (r->has_level)
                allowed += r->tolerance * (low - r->level > 0.0 ? low - r->level : 0.0);
            doubt |= !(s->most[x] - centre <= allowed && centre - s->least[x] <= allowed);
        }
        out->middle[start + x] = centre;
        out->independent[start + x] = s->alone[x] / (double)n;
        out->common[start + x] = s->together[x] / (double)n;
        out->joined[start + x] = s->any[x];
        out->hard[start + x] = (uint8_t)doubt;
    }
}

/* The easy pixels of a block of values; the others are marked as hard, for the plain functions. A stride is the number
 * of values from one frame to the next. */
EXPORT MANY_MACHINES int nd_easy(const double *values, ptrdiff_t value_stride, const double *variances,
                                 ptrdiff_t variance_stride, const double *shared, ptrdiff_t shared_stride,
                                 const uint16_t *flags, ptrdiff_t flag_stride, ptrdiff_t n, ptrdiff_t size,
                                 const step *steps, ptrdiff_t count, const rule *hardness, const results *out)
{
    lanes *rows = calloc((size_t)n, sizeof(lanes));
    if (!rows)
        return 1;
    for (ptrdiff_t start = 0; start < size; start += TILE) {
        const int width = (int)(size - start < TILE ? size - start : TILE);
        sums total;
        begin_sums(&total);
        for (ptrdiff_t i = 0; i < n; i++)
            add_to_sums(&total, rows[i], values + i * value_stride + start, variances + i * variance_stride + start,
                        shared + i * shared_stride + start, flags + i * flag_stride + start, width);
        run_network(rows, steps, count);
        judge(&total, rows, n, hardness, out, start, width);
    }
    free(rows);
    return 0;
}

/* A frame whose rows are laid on a grid: its stored rows (big-endian int16) from `first` on, so many as are at hand,
 * the masters of these rows, and where its first column and row lie. */
typedef struct {
    const uint8_t *stored;
    const masters *rows;
    ptrdiff_t first, count, nx, dx, dy;
    camera how;
} source;

/* The value of one pixel of the grid in one frame, on the reference's scale and sky; NO_DATA beyond its edges. */
static inline __attribute__((always_inline)) void pixel_of(const source *f, ptrdiff_t row, ptrdiff_t column, double *value,
                                                           double *whole, double *part, uint16_t *bits)
{
    const ptrdiff_t y = row - f->dy - f->first, x = column - f->dx;
    if (y < 0 || y >= f->count || x < 0 || x >= f->nx) {
        *value = *whole = *part = 0.0;
        *bits = NO_DATA;
    } else {
        const double count = count_of(f->stored + 2 * (y * f->nx + x)) + f->how.zero;
        calibrate_pixel(count, f->rows + y, x, &f->how, f->how.single, value, whole, part, bits);
    }
    *value = *value * f->how.scale - f->how.sky;
    *whole = *whole * (f->how.scale * f->how.scale);
    *part = *part * (f->how.scale * f->how.scale);
}

/* From stored rows to the easy pixels of a block of the grid: what nd_calibrate and nd_easy do one after the other. */
EXPORT MANY_MACHINES int nd_stack(const source *frames, ptrdiff_t n, ptrdiff_t row, ptrdiff_t height, ptrdiff_t nx,
                                  const step *steps, ptrdiff_t count, const rule *hardness, const results *out)
{
    lanes *rows = calloc((size_t)n, sizeof(lanes));
    if (!rows)
        return 1;
    for (ptrdiff_t r = 0; r < height; r++)
        for (ptrdiff_t start = 0; start < nx; start += TILE) {
            const int width = (int)(nx - start < TILE ? nx - start : TILE);
            sums total;
            begin_sums(&total);
            for (ptrdiff_t i = 0; i < n; i++) {
                const source *f = frames + i;
                const ptrdiff_t y = row + r - f->dy - f->first, x0 = start - f->dx;
                lanes value, whole, part;
                uint16_t bits[TILE];
                if (y >= 0 && y < f->count && x0 >= 0 && x0 + width <= f->nx) {
                    const camera how = f->how;
                    const uint8_t *stored = f->stored + 2 * (y * f->nx + x0);
                    const double square = how.scale * how.scale;
                    lanes counts;
                    for (int x = 0; x < width; x++)
                        counts[x] = count_of(stored + 2 * x) + how.zero;
                    if (how.single)
                        calibrate_row(counts, width, f->rows + y, x0, &how, 1, value, whole, part, bits);
                    else
                        calibrate_row(counts, width, f->rows + y, x0, &how, 0, value, whole, part, bits);
                    for (int x = 0; x < width; x++) {
                        value[x] = value[x] * how.scale - how.sky;
                        whole[x] *= square;
                        part[x] *= square;
                    }
                } else {
                    for (int x = 0; x < width; x++)
                        pixel_of(f, row + r, start + x, value + x, whole + x, part + x, bits + x);
                }
                add_to_sums(&total, rows[i], value, whole, part, bits, width);
            }
            run_network(rows, steps, count);
            judge(&total, rows, n, hardness, out, r * nx + start, width);
        }
    free(rows);
    return 0;
}

/* The values of some pixels of that block, frame after frame. */
EXPORT void nd_columns(const source *frames, ptrdiff_t n, ptrdiff_t row, ptrdiff_t nx, const int64_t *places,
                       ptrdiff_t many, double *values, double *variances, double *shared, uint16_t *flags)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < many; k++) {
            const ptrdiff_t at = i * many + k;
            pixel_of(frames + i, row + places[k] / nx, places[k] % nx, values + at, variances + at, shared + at,
                     flags + at);
        }
}
