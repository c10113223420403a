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
#define MAX_INDEX 1023
#define FAR 1e30F

/* All that a search knows: one object, of which compilers see that its parts do not overlap. */
typedef struct {
    /* what indices cost, by the state before them */
    float grid[STATES];
    int odd[STATES];                /* parity of the index that shifts in a 0 */
    int entry[STATES];              /* begin of its grid in `bits` */
    int reach;                      /* magnitude from which on costs are equal */
    float bits[2 * MAX_INDEX + 10]; /* of magnitudes -1, 0 ... reach + 2, on each grid */
    float zero[2][STATES];          /* of index 0, by the bit that it shifts in: FAR if it does not */
    /* the window */
    float rest[WINDOW];
    float values[STRIPS][STATES][STRIP], errors[STRIPS][STATES][STRIP]; /* along a strip, by the state behind it */
    uint8_t origin[STRIPS][STATES];
    /* the strip: its weights on each path; values and errors of its columns, by the state behind them */
    float x[2][STRIP][STATES], value[STRIP][STATES], error[STRIP][STATES];
    uint8_t from[STRIP][STATES];
    /* the column: the best index that shifts in either bit, and the cost of the path that takes it; then of those that
     * go on */
    float choice[2][STATES], price[2][STATES], cost[STATES];
    int later[STATES];
} search;

/* Costs that do not depend on the row. */
static void prepare(search *c, const uint8_t *states, size_t magnitudes)
{
    int s;

    c->reach = (int)magnitudes - 1;
    for (s = 0; s < STATES; s++) {
        c->grid[s] = (float)states[2 * s];
        c->odd[s] = states[2 * s + 1];
        c->entry[s] = states[2 * s] ? c->reach + 4 : 0;
    }
}

static void set_price(search *c, float price, const float *bits)
{
    int magnitudes = c->reach + 1, g, k, s;

    for (g = 0; g < 2; g++) {
        float *cost = c->bits + g * (magnitudes + 3);

        cost[0] = cost[1] = FAR;
        for (k = 1; k < magnitudes + 2; k++) {
            cost[k + 1] = price * bits[g * magnitudes + (k < magnitudes ? k : magnitudes - 1)];
        }
    }
    for (s = 0; s < STATES; s++) {
        c->zero[c->odd[s]][s] = price * bits[c->grid[s] > 0.0F ? magnitudes : 0];
        c->zero[!c->odd[s]][s] = FAR;
    }
}

/* Candidates are the index next to the weight toward zero, its two neighbours, and zero. */
static void choose(search *w, int now, int column, float weight)
{
    float below[STATES], same[STATES], above[STATES];
    int index[STATES], entry[STATES], s;

    for (s = 0; s < STATES; s++) {
        float near = (fabsf(w->x[now][column][s]) + w->grid[s]) * 0.5F;

        near = near < (float)(MAX_INDEX - 1) ? near : (float)(MAX_INDEX - 1);
        index[s] = (int)near;
        entry[s] = w->entry[s] + (index[s] < w->reach + 1 ? index[s] : w->reach + 1);
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
        w->price[0][s] = zero0 < cost0 ? zero0 : cost0;
        w->price[1][s] = zero1 < cost1 ? zero1 : cost1;
    }
}

/* Two paths meet at each state behind the column; the better one goes on. */
static void meet(search *w, int now, int column)
{
    int bit, s;

    for (bit = 0; bit < 2; bit++) {
        int *later = w->later + HALF * bit;

        for (s = 0; s < HALF; s++) {
            float cost = w->price[bit][2 * s], other = w->price[bit][2 * s + 1];

            w->later[HALF * bit + s] = other < cost;
            w->cost[HALF * bit + s] = other < cost ? other : cost;
        }
        for (s = 0; s < HALF; s++) {
            float here = w->x[now][column][2 * s], there = w->x[now][column][2 * s + 1];
            float a = w->choice[bit][2 * s], b = w->choice[bit][2 * s + 1];
            float x = later[s] ? there : here, size = later[s] ? b : a, value = x < 0.0F ? -size : size;

            w->value[column][HALF * bit + s] = value;
            w->error[column][HALF * bit + s] = x - value;
        }
        for (s = 0; s < HALF; s++) {
            w->from[column][HALF * bit + s] = (uint8_t)(2 * s + later[s]);
        }
    }
}

/* What a later weight of the strip is on the paths that go on. */
static void follow(search *w, int now, int column, int behind, float effect)
{
    int s;

    for (s = 0; s < HALF; s++) {
        float here = w->x[now][behind][2 * s], there = w->x[now][behind][2 * s + 1];
        float first = w->later[s] ? there : here, second = w->later[HALF + s] ? there : here;

        w->x[1 - now][behind][s] = first - w->error[column][s] * effect;
        w->x[1 - now][behind][HALF + s] = second - w->error[column][HALF + s] * effect;
    }
}

/* What the errors of one strip, each with its effects, leave of the weights of another. */
static void correct(const float *old, const float *error, float effect[STRIP][STRIP], float *next)
{
    float rest[STRIP];
    int i, k;

    for (k = 0; k < STRIP; k++) {
        float x = old[k];

        for (i = 0; i < STRIP; i++) {
            x -= error[i] * effect[i][k];
        }
        rest[k] = x;
    }
    memcpy(next, rest, sizeof rest);
}

/* Write down the paths through a strip that was searched. */
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

/* What the weights of a strip are on each path: those of the row, less the effects of the errors in each strip before. */
static void enter(search *w, int strip, int width, const float *feedback, size_t stride)
{
    float x[2][STATES][STRIP], effect[STRIP][STRIP] = {{0}};
    uint8_t state[STRIPS][STATES]; /* those behind each strip that survivors went through */
    int states[STRIPS], now = 0, before, i, k, n;

    for (n = 0; n < STATES; n++) {
        memcpy(x[0][n], w->rest + strip * STRIP, sizeof x[0][n]);
    }
    for (before = strip - 1; before >= 0; before--) {
        uint64_t seen = 0;

        states[before] = 0;
        for (n = 0; n < (before == strip - 1 ? STATES : states[before + 1]); n++) {
            int s = before == strip - 1 ? n : w->origin[before + 1][state[before + 1][n]];

            state[before][states[before]] = (uint8_t)s;
            states[before] += !(seen >> s & 1);
            seen |= (uint64_t)1 << s;
        }
    }
    for (before = 0; before < strip; before++) {
        for (i = 0; i < STRIP; i++, feedback += stride) {
            if (width == STRIP) {
                memcpy(effect[i], feedback + strip * STRIP, sizeof effect[i]);
            } else {
                memcpy(effect[i], feedback + strip * STRIP, (size_t)width * sizeof(float));
            }
        }
        for (n = 0; n < states[before]; n++) {
            int s = state[before][n];

            correct(x[now][w->origin[before][s]], w->errors[before][s], effect, x[1 - now][s]);
        }
        now = 1 - now;
    }
    for (n = 0; n < STATES; n++) {
        for (k = 0; k < STRIP; k++) {
            w->x[0][k][n] = x[now][n][k];
        }
    }
}

static void rebase(float cost[STATES])
{
    float least = cost[0];
    int state;

    for (state = 1; state < STATES; state++) {
        least = cost[state] < least ? cost[state] : least;
    }
    for (state = 0; state < STATES; state++) {
        cost[state] -= least; /* floats keep their digits */
    }
}

/* The best path through `columns` weights that stand in w->rest, from *state; of the first `settled` columns the values
 * and errors, and the state behind them. */
static void search_window(search *w, int columns, const float *feedback, size_t stride, const float *weight,
                          int *state, int settled, float *values, float *errors)
{
    int start, strip, s, k, j, best = 0;

    for (s = 0; s < STATES; s++) {
        w->cost[s] = s == *state ? 0.0F : FAR;
    }
    for (start = 0; start < columns; start += STRIP) {
        int width = columns - start < STRIP ? columns - start : STRIP;

        rebase(w->cost);
        enter(w, start / STRIP, width, feedback, stride);
        for (j = 0; j < width; j++) {
            const float *effect = feedback + (size_t)(start + j) * stride + start;

            choose(w, j % 2, j, weight[start + j]);
            meet(w, j % 2, j);
            for (k = j + 1; k < width; k++) {
                follow(w, j % 2, j, k, effect[k]);
            }
        }
        note(w, start / STRIP, width);
    }
    for (s = 1; s < STATES; s++) {
        best = w->cost[s] < w->cost[best] ? s : best;
    }
    for (strip = (columns - 1) / STRIP; strip >= 0; strip--) {
        start = strip * STRIP;
        if (start + STRIP == settled) {
            *state = best;
        }
        if (start < settled) {
            size_t size = sizeof(float) * (size_t)(settled - start < STRIP ? settled - start : STRIP);

            memcpy(values + start, w->values[strip][best], size);
            memcpy(errors + start, w->errors[strip][best], size);
        }
        best = w->origin[strip][best];
    }
}

/* One row, window by window, none of which reaches into a second block; `rest` holds it and is lost. */
static void search_row(search *w, double *rest, size_t columns, size_t block, const float *feedback,
                       const float *weight, double *values)
{
    float found[WINDOW], errors[WINDOW];
    size_t start, stop, end, first, last, j, k, i;
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
            for (k = stop; k < last; k++) {
                double x = rest[k];

                for (i = 0; i < STRIP; i++) {
                    x -= (double)errors[j + i - start] * feedback[(j + i) * block + k - first];
                }
                rest[k] = x;
            }
        }
    }
}

void cwb_search(double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
                const double *row_feedback, const float *price, const float *bits, size_t magnitudes,
                const uint8_t *states, double *scratch, double *values)
{
    search room;
    size_t row, other, j;

    memset(&room, 0, sizeof room);
    prepare(&room, states, magnitudes);
    for (row = 0; row < rows; row++) {
        double *target = w + row * columns, *result = values + row * columns;

        set_price(&room, price[row], bits);
        memcpy(scratch, target, columns * sizeof *scratch);
        search_row(&room, scratch, columns, block, feedback, weight, result);
        for (other = row + 1; row_feedback && other < rows; other++) {
            double effect = row_feedback[row * rows + other], *later = w + other * columns;

            for (j = 0; j < columns; j++) {
                later[j] -= effect * (target[j] - result[j]);
            }
        }
    }
}
