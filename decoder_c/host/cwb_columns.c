/* SPDX-License-Identifier: Apache-2.0
 *
 * What the taps of a convolution read at some of its positions; host only.
 *
 * The input is not padded, and only what is wanted of it is read: calibration often takes one position of a dozen.
 */
#include "cwb_columns.h"

#include <string.h>

/* How many of the indices first, first + step, ... are below an end. */
static size_t below(size_t end, cwb_range range)
{
    size_t found = end > range.first ? (end - range.first - 1) / range.step + 1 : 0;

    return found < range.count ? found : range.count;
}

/* Copies what one tap of one channel reads at the positions of a part; returns the end of the copy. */
static float *copy_tap(const float *x, size_t channels, size_t channel, size_t tap, const cwb_windows *windows,
                       const cwb_range *part, float *out)
{
    size_t height = windows->sizes[0], width = windows->sizes[1], begin = windows->begins[0], i, j, k, before, after;
    size_t down = tap / windows->kernel[1] * windows->dilations[0];
    cwb_range across = part[2];

    across.first = across.first * windows->strides[1] + tap % windows->kernel[1] * windows->dilations[1];
    across.step *= windows->strides[1];
    before = below(windows->begins[1], across);
    after = below(windows->begins[1] + width, across);
    for (i = 0; i < part[0].count; i++) {
        size_t sample = part[0].first + i * part[0].step;

        for (j = 0; j < part[1].count; j++, out += across.count) {
            size_t row = (part[1].first + j * part[1].step) * windows->strides[0] + down;
            size_t inside = row >= begin && row - begin < height;

            if (!inside || after - before < across.count) {
                memset(out, 0, across.count * sizeof *out);
            }
            if (inside && after > before) {
                const float *from = x + ((sample * channels + channel) * height + row - begin) * width;

                from += across.first + before * across.step - windows->begins[1];
                for (k = before; k < after; k++) {
                    out[k] = from[(k - before) * across.step];
                }
            }
        }
    }
    return out;
}

void cwb_columns(const float *x, size_t channels, const cwb_windows *windows, const cwb_range *parts, size_t count,
                 float *out)
{
    size_t channel, tap, i, taps = windows->kernel[0] * windows->kernel[1];

    for (channel = 0; channel < channels; channel++) {
        for (tap = 0; tap < taps; tap++) {
            for (i = 0; i < count; i++) {
                out = copy_tap(x, channels, channel, tap, windows, parts + 3 * i, out);
            }
        }
    }
}
