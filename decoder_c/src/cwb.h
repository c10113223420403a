/* SPDX-License-Identifier: Apache-2.0 */
/* For Arduino, which looks for a library's headers beside its sources. */
#include "../include/cwb.h"
