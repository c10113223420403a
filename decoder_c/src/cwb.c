/* SPDX-License-Identifier: Apache-2.0
 *
 * The decoder of .cwb files. docs/format.md says what the bytes mean; cwb.h says what the functions do.
 *
 * Its kernels are compiled as one file: so the compiler sees all of them at once, and firmware has one file to copy.
 *
 * int may have 16 bits: shifts and products are done in uint32_t or uint64_t. Bytes are loaded one at a time, so
 * neither alignment nor the machine's byte order matters.
 */
#include "cwb.h"

#include "build.h"
#include "bytes.h"
#include "crc.h"
#include "directory.h"
#include "sections.h"
#include "trellis.h"
#include "ans.h"
#include "exponents.h"
#include "adaptive.h"
#include "adaptive_fast.h"
#include "streams.h"
#include "tensors.h"
#include "changes.h"
#include "multiplier.h"
#include "errors.h"
