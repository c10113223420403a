/* SPDX-License-Identifier: Apache-2.0
 *
 * The search along the trellis; host only, see cwb_search.c.
 */
#ifndef CWB_SEARCH_H
#define CWB_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/* Quantises `rows` rows of `columns` weights, in steps, along the trellis, each from state 0.
 *
 * w             (rows, columns) the weights; overwritten
 * block         columns of a block; divides `columns`. An error in one of them does nothing to other blocks
 * feedback      (columns, block) what an error in column j does to the columns k > j behind it in its block: U_jk / U_jj
 * weight        (columns) curvature of the distortion
 * row_feedback  (rows, rows) the same between rows; null if rows do not depend on each other
 * price         (rows) cost of a bit, in units of the distortion
 * bits          (2, magnitudes) code length of an index by its grid and magnitude; larger ones cost what the last costs
 * states        (64, 2) the grid of a state, and the parity (0, 1) of the index that brings the bit 0; a state is the last six
 *               bits, the newest on top. States that differ in the lowest bit have one grid and opposite parities
 * scratch       (columns)
 * values        (rows, columns) the result, on the union of both grids
 */
void cwb_search(double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
                const double *row_feedback, const float *price, const float *bits, size_t magnitudes,
                const uint8_t *states, double *scratch, double *values);

#endif
