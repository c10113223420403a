/* SPDX-License-Identifier: Apache-2.0
 *
 * The one function of <math.h> that the sample models need and zig's freestanding targets lack.
 */
#include <math.h>

float tanhf(float x)
{
    const float square = x * x;
    float power;

    if (square < 0.01f) {
        return x - x * square * (1.0f / 3.0f - square * (2.0f / 15.0f));
    }
    if (square > 100.0f) {
        return x > 0.0f ? 1.0f : -1.0f;
    }
    power = expf(2.0f * x);
    return (power - 1.0f) / (power + 1.0f);
}
