/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32 of ISO-HDLC for hosts: what their builds of the decoder call as CWB_CRC32.
 */
#ifndef CWB_CRC_H
#define CWB_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t cwb_fast_crc32(uint32_t crc, const uint8_t *data, size_t size);

#endif
