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
#define EXCLUDING (1 | 8 | 16 | 64)

typedef double lanes[TILE];

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

/* The notebook's calibration, roll and two medians for a block of rows of the stack.
 *
 * raws[i] are the stored rows of frame i (big-endian int16) which, rolled by dy, become the block's; row[i][r] is the
 * number of the row in its own frame, where its masters are. */
EXPORT MANY_MACHINES int nd_notebook(const uint8_t *const *raws, const int32_t *row, ptrdiff_t n, ptrdiff_t rows,
                                     ptrdiff_t nx, double zero, const double *bias, const double *flat,
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
                const double *level = bias + row[i * rows + r] * nx, *light = flat + row[i * rows + r] * nx;
                const double gain = gains[i], factor = factors[i];
                ptrdiff_t from = (start - dx[i]) % nx;
                if (from < 0)
                    from += nx;
                for (int done = 0; done < width;) {
                    const int part = (int)(nx - from < width - done ? nx - from : width - done);
                    double *s = signal[i] + done, *v = noise[i] + done, *o = odd + done;
                    for (int x = 0; x < part; x++) {
                        double electrons = (count_of(raw + 2 * (from + x)) + zero - level[from + x]) * gain;
                        v[x] = electrons;
                        s[x] = electrons / light[from + x] * factor;
                        o[x] += s[x] - s[x] + (v[x] - v[x]);
                    }
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

/* Bias, gain, flat and extinction for a row block of one frame, its variances and flags, in the order of
 * remove_signature and correct_extinction. */
EXPORT MANY_MACHINES void nd_calibrate(const double *counts, ptrdiff_t size, double gain, double noise_squared,
                                       const double *pedestal, const double *pedestal_variance, const double *thermal,
                                       const double *sensitivity, const double *sensitivity_variance,
                                       const uint16_t *known, double saturation, double factor, double square, int single,
                                       double *data, double *variance, double *shared, uint16_t *flags)
{
    for (ptrdiff_t x = 0; x < size; x++) {
        const int present = (known[x] & 16) == 0;
        const double signal = ((present ? counts[x] : 0.0) - (present ? pedestal[x] : 0.0)) * gain;
        double shot = signal + thermal[x];
        shot = shot > 0.0 ? shot : 0.0;
        const double light = sensitivity[x], squared = light * light;
        const double independent = (shot + noise_squared) / squared;
        const double ratio = signal / squared;
        double common = pedestal_variance[x] / squared + ratio * ratio * sensitivity_variance[x];
        common = present ? common : 0.0;
        double value = signal / light, whole = (present ? independent : 0.0) + common;
        if (single) { /* what a float32 product between the two corrections would have kept */
            value = (double)(float)((double)(float)value * factor);
            whole = (double)(float)((double)(float)whole * square);
            common = (double)(float)((double)(float)common * square);
        } else {
            value *= factor;
            whole *= square;
            common *= square;
        }
        data[x] = value;
        variance[x] = whole;
        shared[x] = common;
        flags[x] = (uint16_t)(known[x] | (counts[x] >= saturation ? 4 : 0));
    }
}

/* What the easy pixels of a block need: no value excluded and none that could be clipped. The others are marked as
 * hard; the plain functions do them. `least_ratio` is by what the variance of any frame can be below the pixel's least
 * one in the prediction. A stride is the number of values from one frame to the next. */
EXPORT MANY_MACHINES int nd_easy(const double *values, ptrdiff_t value_stride, const double *variances,
                                 ptrdiff_t variance_stride, const double *shared, ptrdiff_t shared_stride,
                                 const uint16_t *flags, ptrdiff_t flag_stride, ptrdiff_t n, ptrdiff_t size,
                                 const step *steps, ptrdiff_t count, int clip, double clip_sigma, double least_ratio, int has_level,
                                 double level, double tolerance, double *middle, double *independent, double *common,
                                 uint16_t *joined, uint8_t *hard)
{
    lanes *rows = malloc((size_t)n * sizeof(lanes));
    if (!rows)
        return 1;
    const ptrdiff_t first = n % 2 ? (n - 1) / 2 : n / 2 - 1, second = n / 2;
    for (ptrdiff_t start = 0; start < size; start += TILE) {
        const int width = (int)(size - start < TILE ? size - start : TILE);
        lanes least, most, quiet, quietest, alone, together, odd;
        uint16_t any[TILE] = {0};
        for (int x = 0; x < TILE; x++) {
            least[x] = quiet[x] = quietest[x] = INFINITY;
            most[x] = -INFINITY;
            alone[x] = together[x] = odd[x] = 0.0;
        }
        for (ptrdiff_t i = 0; i < n; i++) {
            const double *value = values + i * value_stride + start, *whole = variances + i * variance_stride + start;
            const double *part = shared + i * shared_stride + start;
            const uint16_t *bits = flags + i * flag_stride + start;
            if (width < TILE)
                memset(rows[i], 0, sizeof(lanes));
            for (int x = 0; x < width; x++) {
                const double v = value[x], w = whole[x], k = part[x], own = w - k;
                rows[i][x] = v;
                least[x] = v < least[x] ? v : least[x];
                most[x] = v > most[x] ? v : most[x];
                quiet[x] = w < quiet[x] ? w : quiet[x];
                quietest[x] = k < quietest[x] ? k : quietest[x];
                odd[x] += (v - v) + (w - w) + (k - k);
                alone[x] += own > 0.0 ? own : 0.0;
                together[x] += k;
            }
            for (int x = 0; x < width; x++)
                any[x] |= bits[x];
        }
        run_network(rows, steps, count);
        for (int x = 0; x < width; x++) {
            const double low = rows[first][x], centre = 0.5 * (low + rows[second][x]);
            int doubt = (any[x] & EXCLUDING) != 0 || odd[x] != 0.0 || quiet[x] < 0.0 || quietest[x] < 0.0;
            if (clip) {
                double allowed = clip_sigma * sqrt(quiet[x] * least_ratio);
                if (has_level)
                    allowed += tolerance * (low - level > 0.0 ? low - level : 0.0);
                doubt |= !(most[x] - centre <= allowed && centre - least[x] <= allowed);
            }
            middle[start + x] = centre;
            independent[start + x] = alone[x] / (double)n;
            common[start + x] = together[x] / (double)n;
            joined[start + x] = any[x];
            hard[start + x] = (uint8_t)doubt;
        }
    }
    free(rows);
    return 0;
}
