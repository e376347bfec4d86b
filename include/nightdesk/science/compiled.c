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

#include "middle.h"

#if HAS_VECTORS && __GNUC__ >= 12
#define MANY_MACHINES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#elif HAS_VECTORS
#define MANY_MACHINES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MANY_MACHINES
#endif
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Raised whenever what a function takes or gives changes: an older library, not built anew, is then left alone. */
#define VERSION 6
#define NO_DATA 16
#define SATURATED 4
#define EXCLUDING (1 | 8 | NO_DATA | 64)

EXPORT int nd_version(void)
{
    return VERSION;
}

/* Vectors of so many doubles at most, for tests: all give the same bits. */
EXPORT void nd_widest(int doubles)
{
#if HAS_VECTORS
    widest = doubles;
#else
    (void)doubles;
#endif
}

/* The two middle values of each pixel. `used` may be NULL; else values that do not count become in turn +inf and
 * -inf, so that the middle of the others stays in the middle of the network. */
EXPORT MANY_MACHINES int nd_middle(const double *values, const uint8_t *used, ptrdiff_t n, ptrdiff_t size,
                                   const step *steps, ptrdiff_t count, double *lower, double *upper)
{
    if (!used && middle_of_few(values, size, n, size, lower, upper))
        return 0;
    lanes *rows = tile_rows(n);
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
        if (used && n % 2) /* the value below the middle is wanted too */
            run_network(rows, steps, count);
        else
            middle_of_tile(rows, n, steps, count);
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
    lanes *signal = tile_rows(n), *noise = tile_rows(n);
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
            middle_of_tile(signal, n, steps, count);
            middle_of_tile(noise, n, steps, count);
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
 * prediction. `skies` and `deviations` are the frames' variances of the sky and of the deviation from the median, the
 * least of which is `least_deviation`; NULL where all frames are equally noisy. */
typedef struct {
    double clip_sigma, least_ratio, level, tolerance, least_deviation;
    const double *skies, *deviations;
    int32_t clip, has_level;
} rule;

/* The k-th smallest of n values, from 0; they are left in another order. */
static double ranked(double *values, ptrdiff_t n, ptrdiff_t k)
{
    ptrdiff_t first = 0, last = n - 1;
    while (first < last) {
        const double pivot = values[first + (last - first) / 2];
        ptrdiff_t i = first, j = last;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (pivot < values[j])
                j--;
            if (i <= j) {
                const double swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (k <= j)
            last = j;
        else if (k >= i)
            first = i;
        else
            break;
    }
    return values[k];
}

/* The lower middle one of the values that are used (of all where `used` is NULL), and its place; of equal values those
 * of earlier frames come first. `spare` holds n values. Without any the first place stands, as a sort leaves it. */
static double lower_middle(const double *values, ptrdiff_t stride, const uint8_t *used, ptrdiff_t used_stride,
                           ptrdiff_t n, double *spare, ptrdiff_t *place)
{
    ptrdiff_t many = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        if (!used || used[i * used_stride])
            spare[many++] = values[i * stride];
    *place = 0;
    if (!many)
        return values[0];
    const ptrdiff_t wanted = (many - 1) / 2;
    const double middle = ranked(spare, many, wanted);
    ptrdiff_t below = 0;
    for (ptrdiff_t i = 0; i < many; i++)
        below += spare[i] < middle;
    for (ptrdiff_t i = 0, equal = wanted - below; i < n; i++)
        if ((!used || used[i * used_stride]) && values[i * stride] == middle && equal-- == 0) {
            *place = i;
            break;
        }
    return middle;
}

/* What a clip goes by: of each pixel the lower middle variance, and whose it is. */
EXPORT int nd_lower_middle(const double *values, const uint8_t *used, ptrdiff_t n, ptrdiff_t size, double *middle,
                           int64_t *place)
{
    double *spare = malloc((size_t)n * sizeof(double)), *tile = malloc((size_t)n * TILE * sizeof(double));
    uint8_t *counts = malloc((size_t)n * TILE);
    for (ptrdiff_t start = 0; spare && tile && counts && start < size; start += TILE) {
        const int width = (int)(size - start < TILE ? size - start : TILE);
        for (ptrdiff_t i = 0; i < n; i++) /* a pixel's values side by side */
            for (int x = 0; x < width; x++) {
                tile[x * n + i] = values[i * size + start + x];
                counts[x * n + i] = used[i * size + start + x];
            }
        for (int x = 0; x < width; x++) {
            ptrdiff_t found;
            middle[start + x] = lower_middle(tile + x * n, 1, counts + x * n, 1, n, spare, &found);
            place[start + x] = found;
        }
    }
    const int failed = !spare || !tile || !counts;
    free(spare);
    free(tile);
    free(counts);
    return failed;
}

/* Whether reject_outliers would leave every value of a pixel, all of which are used, in the order of its sums. */
static int all_stay(const double *values, ptrdiff_t value_stride, const double *variances, ptrdiff_t variance_stride,
                    ptrdiff_t n, double centre, double least, double most, double light, const rule *r, double *spare)
{
    ptrdiff_t place;
    const double typical = lower_middle(variances, variance_stride, NULL, 0, n, spare, &place);
    const double sky = r->skies ? r->skies[place] : 0.0;
    const double starlight = typical - sky > 0.0 ? typical - sky : 0.0;
    const double total = sky + starlight > 0.0 ? sky + starlight : 1.0;
    const double lowest = r->skies ? typical * (r->least_deviation + starlight) / total : typical;
    const double nearest = r->clip_sigma * sqrt(lowest) + light;
    if (most - centre <= nearest && centre - least <= nearest)
        return 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double off = fabs(values[i * value_stride] - centre);
        if (off <= nearest)
            continue;
        if (!r->skies)
            return 0;
        const double predicted = typical * (r->deviations[i] + starlight) / total;
        if (off > r->clip_sigma * sqrt(predicted) + light)
            return 0;
    }
    return 1;
}

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

/* The values and variances of a tile before they went through the network, and room for one pixel's. */
typedef struct {
    const double *values, *variances;
    ptrdiff_t value_stride, variance_stride;
    double *spare;
} tile_of;

static inline __attribute__((always_inline)) void judge(const sums *s, const lanes *rows, ptrdiff_t n, const rule *r,
                                                        const tile_of *before, const results *out, ptrdiff_t start,
                                                        int width)
{
    const ptrdiff_t first = n % 2 ? (n - 1) / 2 : n / 2 - 1, second = n / 2;
    double light[TILE] = {0}, needed[TILE] = {0};
    uint8_t far[TILE] = {0};
    int any = 0;
    for (int x = 0; x < width; x++) {
        const double low = rows[first][x], centre = 0.5 * (low + rows[second][x]);
        const int doubt = (s->any[x] & EXCLUDING) != 0 || s->odd[x] != 0.0 || s->quiet[x] < 0.0 || s->quietest[x] < 0.0;
        if (r->clip) {
            if (r->has_level)
                light[x] = r->tolerance * (low - r->level > 0.0 ? low - r->level : 0.0);
            const double allowed = r->clip_sigma * sqrt(s->quiet[x] * r->least_ratio) + light[x];
            const double above = s->most[x] - centre, under = centre - s->least[x];
            far[x] = !(above <= allowed && under <= allowed);
            const double sigmas = ((above > under ? above : under) - light[x]) / r->clip_sigma;
            needed[x] = sigmas * sigmas / r->least_ratio;
            any |= far[x];
        }
        out->middle[start + x] = centre;
        out->independent[start + x] = s->alone[x] / (double)n;
        out->common[start + x] = s->together[x] / (double)n;
        out->joined[start + x] = s->any[x];
        out->hard[start + x] = (uint8_t)doubt;
    }
    if (any) { /* where the lower middle variance, unlike the least one, is enough, no value is looked at by itself */
        double low[TILE] = {0};
        for (ptrdiff_t i = 0; i < n; i++)
            for (int x = 0; x < width; x++)
                low[x] += before->variances[i * before->variance_stride + x] < needed[x] ? 1.0 : 0.0;
        for (int x = 0; x < width; x++)
            far[x] &= !(low[x] <= (double)((n - 1) / 2));
    }
    for (int x = 0; x < width; x++)
        if (far[x] && !out->hard[start + x])
            out->hard[start + x] =
                !all_stay(before->values + x, before->value_stride, before->variances + x, before->variance_stride, n,
                          out->middle[start + x], s->least[x], s->most[x], light[x], r, before->spare);
}

/* The easy pixels of a block of values; the others are marked as hard, for the plain functions. A stride is the number
 * of values from one frame to the next. */
EXPORT MANY_MACHINES int nd_easy(const double *values, ptrdiff_t value_stride, const double *variances,
                                 ptrdiff_t variance_stride, const double *shared, ptrdiff_t shared_stride,
                                 const uint16_t *flags, ptrdiff_t flag_stride, ptrdiff_t n, ptrdiff_t size,
                                 const step *steps, ptrdiff_t count, const rule *hardness, const results *out)
{
    lanes *rows = tile_rows(n);
    double *spare = malloc((size_t)n * sizeof(double));
    for (ptrdiff_t start = 0; rows && spare && start < size; start += TILE) {
        const int width = (int)(size - start < TILE ? size - start : TILE);
        const tile_of before = {values + start, variances + start, value_stride, variance_stride, spare};
        sums total;
        begin_sums(&total);
        for (ptrdiff_t i = 0; i < n; i++)
            add_to_sums(&total, rows[i], values + i * value_stride + start, variances + i * variance_stride + start,
                        shared + i * shared_stride + start, flags + i * flag_stride + start, width);
        middle_of_tile(rows, n, steps, count);
        judge(&total, rows, n, hardness, &before, out, start, width);
    }
    const int failed = !rows || !spare;
    free(rows);
    free(spare);
    return failed;
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

/* Some neighbours of a row of the grid in one frame. */
static inline __attribute__((always_inline)) void tile_laid(const source *f, ptrdiff_t row, ptrdiff_t start, int width,
                                                            double *value, double *whole, double *part, uint16_t *bits)
{
    const ptrdiff_t y = row - f->dy - f->first, x0 = start - f->dx;
    if (y < 0 || y >= f->count || x0 < 0 || x0 + width > f->nx) {
        for (int x = 0; x < width; x++)
            pixel_of(f, row, start + x, value + x, whole + x, part + x, bits + x);
        return;
    }
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
}

/* Strips of one frame's rows of the grid, one below the other: rows from bounds[i] to below bounds[i + 1] of each
 * strip i. Data and variance are float where the camera's figures are rounded to it. */
EXPORT MANY_MACHINES void nd_sample(const source *strips, ptrdiff_t n, const int64_t *bounds, ptrdiff_t nx, void *data,
                                    void *variance, uint16_t *flags)
{
    ptrdiff_t at = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t row = bounds[2 * i]; row < bounds[2 * i + 1]; row++)
            for (ptrdiff_t start = 0; start < nx; start += TILE) {
                const int width = (int)(nx - start < TILE ? nx - start : TILE);
                lanes value, whole, part;
                tile_laid(strips + i, row, start, width, value, whole, part, flags + at);
                if (strips[i].how.single)
                    for (int x = 0; x < width; x++) {
                        ((float *)data)[at + x] = (float)value[x];
                        ((float *)variance)[at + x] = (float)whole[x];
                    }
                else {
                    memcpy((double *)data + at, value, (size_t)width * sizeof(double));
                    memcpy((double *)variance + at, whole, (size_t)width * sizeof(double));
                }
                at += width;
            }
}

/* From stored rows to the easy pixels of a block of the grid: what nd_calibrate and nd_easy do one after the other. */
EXPORT MANY_MACHINES int nd_stack(const source *frames, ptrdiff_t n, ptrdiff_t row, ptrdiff_t height, ptrdiff_t nx,
                                  const step *steps, ptrdiff_t count, const rule *hardness, const results *out)
{
    lanes *rows = tile_rows(n), *values = tile_rows(n);
    lanes *wholes = tile_rows(n);
    double *spare = malloc((size_t)n * sizeof(double));
    const int failed = !rows || !values || !wholes || !spare;
    const tile_of before = {(double *)values, (double *)wholes, TILE, TILE, spare};
    for (ptrdiff_t r = 0; !failed && r < height; r++)
        for (ptrdiff_t start = 0; start < nx; start += TILE) {
            const int width = (int)(nx - start < TILE ? nx - start : TILE);
            sums total;
            begin_sums(&total);
            for (ptrdiff_t i = 0; i < n; i++) {
                lanes part;
                uint16_t bits[TILE];
                tile_laid(frames + i, row + r, start, width, values[i], wholes[i], part, bits);
                add_to_sums(&total, rows[i], values[i], wholes[i], part, bits, width);
            }
            middle_of_tile(rows, n, steps, count);
            judge(&total, rows, n, hardness, &before, out, r * nx + start, width);
        }
    free(rows);
    free(values);
    free(wholes);
    free(spare);
    return failed;
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

/* The sum of a pixel and the two on either side of it in a row, as far as they are there, the nearest first. */
static inline float sum_beside(const float *line, ptrdiff_t x, ptrdiff_t nx)
{
    float total = line[x];
    for (ptrdiff_t apart = 1; apart <= 2; apart++) {
        if (x >= apart)
            total += line[x - apart];
        if (x + apart < nx)
            total += line[x + apart];
    }
    return total;
}

/* A row of the means of 5 by 5 pixels; beyond the edge there is nothing. `line` holds nx values. */
static inline __attribute__((always_inline)) void mean_around(const float *restrict image, ptrdiff_t y, ptrdiff_t ny,
                                                              ptrdiff_t nx, float *restrict line,
                                                              float *restrict mean)
{
    memcpy(line, image + y * nx, (size_t)nx * sizeof(float));
    for (ptrdiff_t apart = 1; apart <= 2; apart++)
        for (int side = 0; side < 2; side++) {
            const ptrdiff_t other = side ? y + apart : y - apart;
            if (other >= 0 && other < ny)
                for (ptrdiff_t x = 0; x < nx; x++)
                    line[x] += image[other * nx + x];
        }
    for (ptrdiff_t x = 2; x < nx - 2; x++)
        mean[x] = ((((line[x] + line[x - 1]) + line[x + 1]) + line[x - 2]) + line[x + 2]) / 25.0f;
    for (ptrdiff_t x = 0; x < nx; x += x == 1 && nx > 4 ? nx - 3 : 1)
        mean[x] = sum_beside(line, x, nx) / 25.0f;
}

/* Which part of 5 neighbours lies in the image. */
static inline double share_inside(ptrdiff_t place, ptrdiff_t length)
{
    const ptrdiff_t first = place > 2 ? place - 2 : 0, last = place + 2 < length - 1 ? place + 2 : length - 1;
    return (double)(last - first + 1) / 5.0;
}

/* Pixels whose 5 by 5 neighbours are brighter than the sky by more than `limit`, and what is so many steps from them.
 * `image` is float or double; `sound` may be NULL: then all pixels are good. */
EXPORT MANY_MACHINES int nd_objects(const plane *image, const uint8_t *sound, ptrdiff_t ny, ptrdiff_t nx, double level,
                                    double limit, ptrdiff_t growth, uint8_t *objects)
{
    const ptrdiff_t size = ny * nx;
    float *excess = malloc((size_t)size * sizeof(float)), *line = malloc((size_t)nx * 3 * sizeof(float));
    float *good = sound ? malloc((size_t)size * sizeof(float)) : NULL;
    uint8_t *grown = malloc((size_t)size);
    const int failed = !excess || !line || !grown || (sound && !good);
    if (!failed) {
        if (image->is_float)
            for (ptrdiff_t i = 0; i < size; i++)
                excess[i] = (float)((double)((const float *)image->pixels)[i] - level);
        else
            for (ptrdiff_t i = 0; i < size; i++)
                excess[i] = (float)(((const double *)image->pixels)[i] - level);
        if (sound)
            for (ptrdiff_t i = 0; i < size; i++) {
                excess[i] = sound[i] ? excess[i] : 0.0f;
                good[i] = sound[i] ? 1.0f : 0.0f;
            }
        float *light = line + nx, *share = line + 2 * nx;
        for (ptrdiff_t y = 0; y < ny; y++) {
            uint8_t *bright = objects + y * nx;
            mean_around(excess, y, ny, nx, line, light);
            if (sound) {
                mean_around(good, y, ny, nx, line, share);
                const float least = (float)(1.0 / 25.0), step = (float)limit;
                for (ptrdiff_t x = 0; x < nx; x++)
                    bright[x] = light[x] > step * (share[x] > least ? share[x] : least);
            } else {
                const double of_rows = share_inside(y, ny);
                for (ptrdiff_t x = 0; x < nx; x++) {
                    const double inside = of_rows * share_inside(x, nx);
                    bright[x] = (double)light[x] > limit * (inside > 1.0 / 25.0 ? inside : 1.0 / 25.0);
                }
            }
        }
        for (ptrdiff_t step = 0; step < growth; step++) {
            memcpy(grown, objects, (size_t)size);
            for (ptrdiff_t y = 0; y < ny; y++) {
                const uint8_t *from = grown + y * nx;
                uint8_t *to = objects + y * nx;
                for (ptrdiff_t x = 1; x < nx; x++)
                    to[x] |= from[x - 1];
                for (ptrdiff_t x = 0; x < nx - 1; x++)
                    to[x] |= from[x + 1];
                if (y)
                    for (ptrdiff_t x = 0; x < nx; x++)
                        to[x] |= from[x - nx];
                if (y < ny - 1)
                    for (ptrdiff_t x = 0; x < nx; x++)
                        to[x] |= from[x + nx];
            }
        }
    }
    free(excess);
    free(line);
    free(good);
    free(grown);
    return failed;
}

/* A smoothed image: each pixel the weighted mean of those up to `reach` above and below it, rounded to float, then of
 * what that left beside it. Weights from the middle outwards; beyond the edge stands what is at the edge. */
EXPORT MANY_MACHINES int nd_smooth(const float *image, ptrdiff_t ny, ptrdiff_t nx, const double *weights,
                                   ptrdiff_t reach, float *smooth)
{
    double *sum = malloc((size_t)nx * sizeof(double)), *line = malloc((size_t)(nx + 2 * reach) * sizeof(double));
    const int failed = !sum || !line;
    for (ptrdiff_t y = 0; !failed && y < ny; y++) {
        double *const middle = line + reach;
        for (ptrdiff_t x = 0; x < nx; x++)
            sum[x] = (double)image[y * nx + x] * weights[0];
        for (ptrdiff_t apart = reach; apart > 0; apart--) {
            const float *below = image + (y >= apart ? y - apart : 0) * nx;
            const float *above = image + (y + apart < ny ? y + apart : ny - 1) * nx;
            const double weight = weights[apart];
            for (ptrdiff_t x = 0; x < nx; x++)
                sum[x] += ((double)below[x] + (double)above[x]) * weight;
        }
        for (ptrdiff_t x = 0; x < nx; x++)
            middle[x] = (double)(float)sum[x];
        for (ptrdiff_t apart = 1; apart <= reach; apart++) {
            middle[-apart] = middle[0];
            middle[nx - 1 + apart] = middle[nx - 1];
        }
        for (ptrdiff_t x = 0; x < nx; x++)
            sum[x] = middle[x] * weights[0];
        for (ptrdiff_t apart = reach; apart > 0; apart--) {
            const double *left = middle - apart, *right = middle + apart, weight = weights[apart];
            for (ptrdiff_t x = 0; x < nx; x++)
                sum[x] += (left[x] + right[x]) * weight;
        }
        for (ptrdiff_t x = 0; x < nx; x++)
            smooth[y * nx + x] = (float)sum[x];
    }
    free(sum);
    free(line);
    return failed;
}

/* The variance of a median of all frames' values from the means over the frames. `table`, of `nodes` steps, tells what
 * unequal noise makes of it by the share of the sky in it, whose variance is `sky`; NULL where all are equally noisy. */
EXPORT MANY_MACHINES void nd_median_variance(const double *independent, const double *common, ptrdiff_t size,
                                             const double *table, ptrdiff_t nodes, double sky, double single,
                                             double groups, double spread, double *variance)
{
    for (ptrdiff_t i = 0; i < size; i++) {
        double noise = independent[i];
        if (table) {
            const double light = noise - sky, place = sky / (sky + (light > 0.0 ? light : 0.0)) * (double)nodes;
            ptrdiff_t node = place > 0.0 ? (ptrdiff_t)place : 0;
            node = node < nodes - 1 ? node : nodes - 1;
            const double low = table[node];
            noise *= low + (place - (double)node) * (table[node + 1] - low);
        }
        variance[i] = single * noise + common[i] / groups * spread;
    }
}

/* The error function. */
EXPORT void nd_erf(const double *values, ptrdiff_t size, double *results)
{
    for (ptrdiff_t i = 0; i < size; i++)
        results[i] = erf(values[i]);
}
