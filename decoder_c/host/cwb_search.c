/* SPDX-License-Identifier: Apache-2.0
 *
 * The search along the trellis, for the compressor on the host: what `_search` of cerwu_onnx/quantize/trellis.py does,
 * which explains it, a hundred times faster. Floats are rounded as there, so both find the same path within a window.
 */
#include "cwb_search.h"

#include <math.h>
#include <string.h>

#define STATES 64
#define BLOCK 64  /* columns after which a row settles for one path */
#define AHEAD 24  /* columns that the search looks beyond those */
#define WINDOW (BLOCK + AHEAD)
#define MAX_INDEX 1023
#define FAR 1e30F

/* The two branches that lead to each state. */
typedef struct {
    uint8_t from[STATES][2], odd[STATES][2];
} branches;

/* The best index of either parity at one state, and the cost of the path that takes it. */
typedef struct {
    float index[2], cost[2];
} choice;

/* A window of one row: the survivors' remaining weights, and how they came. */
typedef struct {
    float rest[2][STATES][WINDOW];
    float value[WINDOW][STATES], error[WINDOW][STATES];
    uint8_t from[WINDOW][STATES];
} window;

static branches branches_of(const uint8_t *successor)
{
    branches found;
    uint8_t seen[STATES] = {0}, state, odd;

    for (state = 0; state < STATES; state++) {
        for (odd = 0; odd < 2; odd++) {
            uint8_t next = successor[2 * state + odd];

            found.from[next][seen[next]] = state;
            found.odd[next][seen[next]++] = odd;
        }
    }
    return found;
}

static float cost_of(int index, float magnitude, float grid, float weight, const float *bits, int reach)
{
    float distance = magnitude - (2.0F * (float)index - (index > 0 ? grid : 0.0F));

    return weight * distance * distance + bits[index < reach ? index : reach];
}

/* Candidates are the index next to the weight toward zero, its two neighbours, and zero. */
static choice choose(float x, int odd_grid, float so_far, float weight, const float *bits, int reach)
{
    float magnitude = fabsf(x), grid = (float)odd_grid, near = floorf((magnitude + grid) / 2.0F);
    int index = near < MAX_INDEX - 1 ? (int)near : MAX_INDEX - 1, even = !(index & 1);
    float same = cost_of(index, magnitude, grid, weight, bits, reach);
    float above = cost_of(index + 1, magnitude, grid, weight, bits, reach);
    float below = index > 0 ? cost_of(index - 1, magnitude, grid, weight, bits, reach) : FAR;
    float zero = weight * magnitude * magnitude + bits[0], sign = x < 0 ? -1.0F : 1.0F;
    choice found;

    found.index[!even] = (float)index;
    found.cost[!even] = same;
    found.index[even] = (float)(below < above ? index - 1 : index + 1);
    found.cost[even] = below < above ? below : above;
    if (zero < found.cost[0]) {
        found.index[0] = 0;
        found.cost[0] = zero;
    }
    found.index[0] *= sign;
    found.index[1] *= sign;
    found.cost[0] += so_far;
    found.cost[1] += so_far;
    return found;
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

/* The best path through `columns` weights that stand in w->rest[0][0], from *state; of the first `settled` columns the
 * values and errors, and the state behind them. */
static void search_window(window *w, int columns, const float *feedback, size_t stride, const float *weight,
                          const float *bits, int reach, const branches *lead, int *state, int settled, float *values,
                          float *errors)
{
    float cost[STATES];
    int now = 0, j, i, s, best = 0;

    for (s = 0; s < STATES; s++) {
        cost[s] = s == *state ? 0.0F : FAR;
        if (s > 0) {
            memcpy(w->rest[0][s], w->rest[0][0], (size_t)columns * sizeof(float));
        }
    }
    for (j = 0; j < columns; j++) {
        const float *effect = feedback + (size_t)j * stride;
        choice choices[STATES];

        for (s = 0; s < STATES; s++) {
            choices[s] = choose(w->rest[now][s][j], s & 1, cost[s], weight[j], bits + (s & 1 ? reach + 1 : 0), reach);
        }
        for (s = 0; s < STATES; s++) {
            int first = lead->from[s][0], second = lead->from[s][1];
            int later = choices[second].cost[lead->odd[s][1]] < choices[first].cost[lead->odd[s][0]];
            int from = later ? second : first, odd = lead->odd[s][later];
            float index = choices[from].index[odd];
            float value = 2 * index - (from & 1 ? (float)((index > 0) - (index < 0)) : 0.0F);
            float error = w->rest[now][from][j] - value;
            const float *old = w->rest[now][from];
            float *next = w->rest[1 - now][s];

            cost[s] = choices[from].cost[odd];
            w->value[j][s] = value;
            w->error[j][s] = error;
            w->from[j][s] = (uint8_t)from;
            for (i = j + 1; i < columns; i++) {
                next[i] = old[i] - error * effect[i];
            }
        }
        now = 1 - now;
        if (j % 16 == 15) {
            rebase(cost);
        }
    }
    for (s = 1; s < STATES; s++) {
        best = cost[s] < cost[best] ? s : best;
    }
    for (j = columns - 1; j >= 0; j--) {
        if (j == settled - 1) {
            *state = best;
        }
        if (j < settled) {
            values[j] = w->value[j][best];
            errors[j] = w->error[j][best];
        }
        best = w->from[j][best];
    }
}

/* One row, window by window, none of which reaches into a second block; `rest` holds it and is lost. */
static void search_row(double *rest, size_t columns, size_t block, const float *feedback, const float *weight,
                       const float *bits, int reach, const branches *lead, double *values)
{
    window w;
    float found[WINDOW], errors[WINDOW];
    size_t start, stop, end, first, last, j, k;
    int state = 0;

    for (start = 0; start < columns; start = stop) {
        first = start - start % block;
        last = first + block;
        end = last - start > WINDOW ? start + WINDOW : last;
        stop = end == last ? last : start + BLOCK;
        for (j = start; j < end; j++) {
            w.rest[0][0][j - start] = (float)rest[j];
        }
        search_window(&w, (int)(end - start), feedback + start * block + start - first, block, weight + start, bits,
                      reach, lead, &state, (int)(stop - start), found, errors);
        for (j = start; j < stop; j++) {
            const float *effect = feedback + j * block;
            double error = errors[j - start];

            values[j] = found[j - start];
            for (k = stop; k < last; k++) {
                rest[k] -= error * effect[k - first];
            }
        }
    }
}

void cwb_search(double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
                const double *row_feedback, const float *price, const float *bits, size_t magnitudes,
                const uint8_t *successor, double *scratch, double *values)
{
    branches lead = branches_of(successor);
    float priced[2 * (MAX_INDEX + 2)];
    size_t row, other, j;

    for (row = 0; row < rows; row++) {
        double *target = w + row * columns, *result = values + row * columns;

        for (j = 0; j < 2 * magnitudes; j++) {
            priced[j] = price[row] * bits[j];
        }
        memcpy(scratch, target, columns * sizeof *scratch);
        search_row(scratch, columns, block, feedback, weight, priced, (int)magnitudes - 1, &lead, result);
        for (other = row + 1; row_feedback && other < rows; other++) {
            double effect = row_feedback[row * rows + other], *later = w + other * columns;

            for (j = 0; j < columns; j++) {
                later[j] -= effect * (target[j] - result[j]);
            }
        }
    }
}
