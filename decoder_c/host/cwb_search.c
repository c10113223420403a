/* SPDX-License-Identifier: Apache-2.0
 *
 * The search along the trellis, for the compressor on the host: what `_search` of cerwu_onnx/quantize/trellis.py does,
 * which explains it, hundreds of times faster. Floats are rounded as there, so both find the same path within a window.
 *
 * Survivors do not carry the rest of their rows, as they do there, but only the weights of a strip of columns. Where the
 * next strip begins, what its weights are on each path follows from the errors on that path, taken in the same order.
 * The further back one looks, the fewer paths there are: most of the work is done for one and the same.
 *
 * Within a strip, one loop serves all states. Compilers turn it into vector instructions if it takes no branch: so
 * conditional expressions choose between values at hand, never between memory to read.
 */
#include "cwb_search.h"

#include <math.h>
#include <string.h>

#define STATES 64
#define HALF (STATES / 2)
#define STRIP 8
#define BLOCK 256 /* columns after which a row settles for one path; whole strips */
#define AHEAD 40  /* columns that the search looks beyond those; whole strips */
#define WINDOW (BLOCK + AHEAD)
#define STRIPS (WINDOW / STRIP)
#define TOGETHER 16 /* rows whose errors move later blocks of rows in one go: otherwise that waits for memory */
#define WIDE 64     /* columns for which that happens at a time */
#define MAX_INDEX 1023
#define FAR 1e30F

/* All that a search knows, in one object: so compilers see that its parts do not overlap. */
typedef struct {
    /* The trellis and its costs, by state. */
    float grid[STATES];
    int odd[STATES];                /* parity of the index that brings the bit 0 */
    int entry[STATES];              /* where the costs of its grid begin */
    int magnitudes;                 /* larger indices cost what the last of these costs */
    float bits[2 * MAX_INDEX + 10]; /* cost of magnitudes from -1 on, two more than there are; those below 1 are FAR ... */
    float zero[2][STATES];          /* ... because of their own: of index 0, FAR if it does not bring the bit */
    /* A window: its weights, and the paths through each strip, by the state behind it. */
    float rest[WINDOW], values[STRIPS][STATES][STRIP], errors[STRIPS][STATES][STRIP];
    uint8_t origin[STRIPS][STATES];
    /* A strip: its weights on each path, before and behind a column; what led to the states behind each column. */
    float x[2][STRIP][STATES], value[STRIP][STATES], error[STRIP][STATES];
    uint8_t from[STRIP][STATES];
    /* A column: for each bit the best choice and the cost of the path that takes it; then which path goes on. */
    float choice[2][STATES], total[2][STATES], cost[STATES];
    int second[STATES];
} search;

/* Sets the trellis and its costs. */
static void set_costs(search *w, const uint8_t *states, const float *bits, int magnitudes, float price)
{
    int grid, k, s;

    w->magnitudes = magnitudes;
    for (grid = 0; grid < 2; grid++, bits += magnitudes) {
        float *cost = w->bits + grid * (magnitudes + 3);

        for (k = -1; k < magnitudes + 2; k++) {
            cost[k + 1] = k < 1 ? FAR : price * bits[k < magnitudes ? k : magnitudes - 1];
        }
        for (s = 0; s < STATES; s++) {
            if (states[2 * s] == grid) {
                w->grid[s] = (float)grid;
                w->odd[s] = states[2 * s + 1];
                w->entry[s] = grid * (magnitudes + 3);
                w->zero[w->odd[s]][s] = price * bits[0];
                w->zero[!w->odd[s]][s] = FAR;
            }
        }
    }
}

/* For each state and bit, the best index: candidates are that next to the weight toward zero and its two neighbours, as
 * far as they are not zero, and zero. */
static void choose(search *w, int now, int column, float weight)
{
    float below[STATES], same[STATES], above[STATES];
    int index[STATES], entry[STATES], s;

    for (s = 0; s < STATES; s++) {
        float near = (fabsf(w->x[now][column][s]) + w->grid[s]) * 0.5F;

        near = near < (float)(MAX_INDEX - 1) ? near : (float)(MAX_INDEX - 1);
        index[s] = (int)near;
        entry[s] = w->entry[s] + (index[s] < w->magnitudes ? index[s] : w->magnitudes);
    }
    for (s = 0; s < STATES; s++) {
        const float *bits = w->bits + entry[s];

        below[s] = bits[0];
        same[s] = bits[1];
        above[s] = bits[2];
    }
    for (s = 0; s < STATES; s++) {
        float magnitude = fabsf(w->x[now][column][s]), value = 2.0F * (float)index[s] - w->grid[s];
        float to_same = magnitude - value, to_above = magnitude - (value + 2.0F), to_below = magnitude - (value - 2.0F);
        float cost_same = weight * to_same * to_same + same[s], cost_above = weight * to_above * to_above + above[s];
        float cost_below = weight * to_below * to_below + below[s];
        int lower = cost_below < cost_above, swap = (index[s] ^ w->odd[s]) & 1;
        float other = lower ? value - 2.0F : value + 2.0F, cost_other = lower ? cost_below : cost_above;
        float value0 = swap ? other : value, value1 = swap ? value : other, so_far = w->cost[s];
        float cost0 = so_far + (swap ? cost_other : cost_same), cost1 = so_far + (swap ? cost_same : cost_other);
        float energy = so_far + weight * magnitude * magnitude;
        float zero0 = energy + w->zero[0][s], zero1 = energy + w->zero[1][s];

        w->choice[0][s] = zero0 < cost0 ? 0.0F : value0;
        w->choice[1][s] = zero1 < cost1 ? 0.0F : value1;
        w->total[0][s] = zero0 < cost0 ? zero0 : cost0;
        w->total[1][s] = zero1 < cost1 ? zero1 : cost1;
    }
}

/* Two paths meet at each state behind a column; the better one goes on. */
static void meet(search *w, int now, int column)
{
    int bit, s;

    for (bit = 0; bit < 2; bit++) {
        int first = HALF * bit;

        for (s = 0; s < HALF; s++) {
            float cost = w->total[bit][2 * s], other = w->total[bit][2 * s + 1];

            w->second[first + s] = other < cost;
            w->cost[first + s] = other < cost ? other : cost;
            w->from[column][first + s] = (uint8_t)(2 * s + w->second[first + s]);
        }
        for (s = 0; s < HALF; s++) {
            float x = w->x[now][column][2 * s], other_x = w->x[now][column][2 * s + 1];
            float choice = w->choice[bit][2 * s], other = w->choice[bit][2 * s + 1];
            float chosen = w->second[first + s] ? other : choice, from = w->second[first + s] ? other_x : x;
            float value = from < 0.0F ? -chosen : chosen;

            w->value[column][first + s] = value;
            w->error[column][first + s] = from - value;
        }
    }
}

/* What a later weight of the strip is on the paths that go on. */
static void follow(search *w, int now, int column, int later, float effect)
{
    int s;

    for (s = 0; s < HALF; s++) {
        float x = w->x[now][later][2 * s], other = w->x[now][later][2 * s + 1];
        float x0 = w->second[s] ? other : x, x1 = w->second[HALF + s] ? other : x;

        w->x[1 - now][later][s] = x0 - w->error[column][s] * effect;
        w->x[1 - now][later][HALF + s] = x1 - w->error[column][HALF + s] * effect;
    }
}

/* Writes down the paths through a strip that was searched; columns that it lacks change nothing. */
static void note(search *w, int strip, int width)
{
    int s, k;

    for (k = width; k < STRIP; k++) {
        for (s = 0; s < STATES; s++) {
            w->from[k][s] = (uint8_t)s;
        }
    }
    for (s = 0; s < STATES; s++) {
        float *value = w->values[strip][s], *error = w->errors[strip][s];
        int state = s;

        for (k = STRIP - 1; k >= 0; k--) {
            value[k] = w->value[k][state];
            error[k] = w->error[k][state];
            state = w->from[k][state];
        }
        w->origin[strip][s] = (uint8_t)state;
    }
}

/* The states before a strip on the paths to some states behind it, each once; returns how many. */
static int origins(const search *w, int strip, const uint8_t *behind, int count, uint8_t *found)
{
    uint64_t seen = 0;
    int n, distinct = 0;

    for (n = 0; n < count; n++) {
        uint8_t state = w->origin[strip][behind[n]];

        found[distinct] = state;
        distinct += !(seen >> state & 1);
        seen |= (uint64_t)1 << state;
    }
    return distinct;
}

/* What the errors of one strip, by their effects, leave of the weights of another. `effect` has a row per error. */
static void correct(const float *old, const float *error, const float *effect, size_t stride, float *next)
{
    float rest[STRIP];
    int i, k;

    for (k = 0; k < STRIP; k++) {
        float x = old[k];

        for (i = 0; i < STRIP; i++) {
            x -= error[i] * effect[(size_t)i * stride + (size_t)k];
        }
        rest[k] = x;
    }
    memcpy(next, rest, sizeof rest);
}

/* The weights of a strip on each path: those of the row, corrected by one strip before it after the other. */
static void enter(search *w, int strip, int width, const float *feedback, size_t stride)
{
    float x[2][STATES][STRIP], padded[STRIP * STRIP] = {0};
    uint8_t states[STRIPS][STATES]; /* before each strip, those on paths that still go on */
    int count[STRIPS], now = 0, before, i, k, s;

    for (s = 0; s < STATES; s++) {
        memcpy(x[0][s], w->rest + strip * STRIP, sizeof x[0][s]);
        states[strip][s] = (uint8_t)s;
    }
    count[strip] = STATES;
    for (before = strip - 1; before > 0; before--) {
        count[before] = origins(w, before, states[before + 1], count[before + 1], states[before]);
    }
    for (before = 0; before < strip; before++) {
        const float *effect = feedback + (size_t)(before * STRIP) * stride + strip * STRIP;
        size_t step = stride;

        if (width < STRIP) {
            for (i = 0; i < STRIP; i++) {
                memcpy(padded + i * STRIP, effect + (size_t)i * stride, (size_t)width * sizeof *effect);
            }
            effect = padded;
            step = STRIP;
        }
        for (i = 0; i < count[before + 1]; i++) {
            s = states[before + 1][i];
            correct(x[now][w->origin[before][s]], w->errors[before][s], effect, step, x[1 - now][s]);
        }
        now = 1 - now;
    }
    for (s = 0; s < STATES; s++) {
        for (k = 0; k < STRIP; k++) {
            w->x[0][k][s] = x[now][s][k];
        }
    }
}

/* The state with the least cost, the first if there are several. */
static int cheapest(const float cost[STATES])
{
    int best = 0, s;

    for (s = 1; s < STATES; s++) {
        best = cost[s] < cost[best] ? s : best;
    }
    return best;
}

/* The best path through `columns` weights that stand in w->rest, from *state; of the first `settled` columns the values
 * and errors, and the state behind them. */
static void search_window(search *w, int columns, const float *feedback, size_t stride, const float *weight, int *state,
                          int settled, float *values, float *errors)
{
    int strip, s, j, k, best;

    for (s = 0; s < STATES; s++) {
        w->cost[s] = s == *state ? 0.0F : FAR;
    }
    for (strip = 0; strip * STRIP < columns; strip++) {
        int first = strip * STRIP, width = columns - first < STRIP ? columns - first : STRIP;
        float least = w->cost[cheapest(w->cost)];

        for (s = 0; s < STATES; s++) {
            w->cost[s] -= least; /* so that floats keep their digits */
        }
        enter(w, strip, width, feedback, stride);
        for (j = 0; j < width; j++) {
            const float *effect = feedback + (size_t)(first + j) * stride + first;

            choose(w, j % 2, j, weight[first + j]);
            meet(w, j % 2, j);
            for (k = j + 1; k < width; k++) {
                follow(w, j % 2, j, k, effect[k]);
            }
        }
        note(w, strip, width);
    }
    best = cheapest(w->cost);
    while (strip-- > 0) {
        int left = settled - strip * STRIP;

        if (left > 0) {
            *state = left <= STRIP ? best : *state;
            size_t size = sizeof *values * (size_t)(left < STRIP ? left : STRIP);

            memcpy(values + strip * STRIP, w->values[strip][best], size);
            memcpy(errors + strip * STRIP, w->errors[strip][best], size);
        }
        best = w->origin[strip][best];
    }
}

/* Corrects `columns` weights behind a window by the errors of one of its strips; `feedback` begins at the first of them. */
static void spread(const float *errors, const float *feedback, size_t block, size_t columns, double *rest)
{
    size_t i, k;

    for (k = 0; k < columns; k++) {
        double x = rest[k];

        for (i = 0; i < STRIP; i++) {
            x -= (double)errors[i] * feedback[i * block + k];
        }
        rest[k] = x;
    }
}

/* One row, window by window, none of which reaches into a second block; `rest` holds it and is lost. */
static void search_row(search *w, double *rest, size_t columns, size_t block, const float *feedback, const float *weight,
                       double *values)
{
    float found[WINDOW], errors[WINDOW];
    size_t start, stop, end, first, last, j;
    int state = 0;

    for (start = 0; start < columns; start = stop) {
        first = start - start % block;
        last = first + block;
        end = last - start > WINDOW ? start + WINDOW : last;
        stop = end == last ? last : start + BLOCK;
        for (j = start; j < end; j++) {
            w->rest[j - start] = (float)rest[j];
        }
        search_window(w, (int)(end - start), feedback + start * block + start - first, block, weight + start, &state,
                      (int)(stop - start), found, errors);
        for (j = start; j < stop; j++) {
            values[j] = found[j - start];
        }
        for (j = start; stop < last && j < stop; j += STRIP) {
            spread(errors + (j - start), feedback + j * block + stop - first, block, last - stop, rest + stop);
        }
    }
}

/* What the errors of some rows, one after the other, leave of the weights of later rows.
 *
 * errors        (count, columns)
 * feedback      from the effect of the first of these rows on the first later one; `stride` apart for the next row's
 * later         (rows, columns)
 */
static void move(const double *errors, size_t count, const double *feedback, size_t stride, double *later, size_t rows,
                 size_t columns)
{
    size_t row, start, i, k;

    for (row = 0; row < rows; row++, later += columns) {
        for (start = 0; start < columns; start += WIDE) {
            size_t width = columns - start < WIDE ? columns - start : WIDE;
            double rest[WIDE];

            memcpy(rest, later + start, width * sizeof *rest);
            for (i = 0; i < count; i++) {
                const double *error = errors + i * columns + start;
                double effect = feedback[i * stride + row];

                for (k = 0; k < width; k++) {
                    rest[k] -= effect * error[k];
                }
            }
            memcpy(later + start, rest, width * sizeof *rest);
        }
    }
}

/* As cwb_search. */
static void search_rows(double *w, size_t rows, size_t columns, size_t block, const float *feedback,
                        const float *weight, const double *row_feedback, const float *price, const float *bits,
                        size_t magnitudes, const uint8_t *states, double *scratch, double *values)
{
    search room;
    size_t row, j;

    memset(&room, 0, sizeof room);
    for (row = 0; row < rows; row++) {
        double *target = w + row * columns, *result = values + row * columns;
        size_t first = row - row % TOGETHER, left = rows - first, last = left < TOGETHER ? rows : first + TOGETHER;

        set_costs(&room, states, bits, (int)magnitudes, price[row]);
        memcpy(scratch, target, columns * sizeof *scratch);
        search_row(&room, scratch, columns, block, feedback, weight, result);
        if (row_feedback) {
            for (j = 0; j < columns; j++) {
                target[j] -= result[j]; /* its error from now on */
            }
            move(target, 1, row_feedback + row * rows + row + 1, rows, target + columns, last - row - 1, columns);
        }
        if (row_feedback && row + 1 == last) {
            move(w + first * columns, last - first, row_feedback + first * rows + last, rows, w + last * columns,
                 rows - last, columns);
        }
    }
}

#if defined(__GNUC__) && defined(__x86_64__) && !defined(CWB_NARROW)
/* The same in wider vectors, which round alike: products and sums are not fused. Tests define CWB_NARROW. */
__attribute__((target("avx2"), flatten)) static void search_rows_avx2(
    double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
    const double *row_feedback, const float *price, const float *bits, size_t magnitudes, const uint8_t *states,
    double *scratch, double *values)
{
    search_rows(w, rows, columns, block, feedback, weight, row_feedback, price, bits, magnitudes, states, scratch,
                values);
}
#define WIDER __builtin_cpu_supports("avx2")
#else
#define search_rows_avx2 search_rows
#define WIDER 0
#endif

void cwb_search(double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
                const double *row_feedback, const float *price, const float *bits, size_t magnitudes,
                const uint8_t *states, double *scratch, double *values)
{
    (WIDER ? search_rows_avx2 : search_rows)(w, rows, columns, block, feedback, weight, row_feedback, price, bits,
                                             magnitudes, states, scratch, values);
}
