/* SPDX-License-Identifier: Apache-2.0 */
/* Calls every function of cwb.h without one of its arguments: `arguments FILE`, whose first tensor is coded. */
#include "cwb.h"

#include <stdio.h>

#define EXPECT(call, error)                                            \
    do {                                                               \
        cwb_error found = (call);                                      \
        if (found != (error)) {                                        \
            printf("line %d: %s\n", __LINE__, cwb_strerror(found));    \
            failed = 1;                                                \
        }                                                              \
    } while (0)
#define REFUSED(call) EXPECT(call, CWB_ERR_ARGUMENT)
#define ONE UINT32_C(0x3F800000)

int main(int argc, char **argv)
{
    static unsigned char data[65536];
    static uint16_t scratch[65536];
    static int16_t symbols[65536];
    static float values[65536];
    static int8_t exponents[65536];
    FILE *stream = argc > 1 ? fopen(argv[1], "rb") : NULL;
    size_t size = stream == NULL ? 0 : fread(data, 1, sizeof data, stream);
    const uint8_t *content;
    const char *name;
    size_t name_length;
    uint32_t length, margin;
    int32_t multiplier = 0, shift = 0;
    int failed = 0;
    cwb_file file;
    cwb_tensor tensor;
    cwb_stream coded;

    REFUSED(cwb_open(NULL, data, size));
    REFUSED(cwb_open(&file, NULL, size));
    EXPECT(cwb_open(&file, data, size), CWB_OK);
    REFUSED(cwb_tensor_at(NULL, 0, &tensor));
    REFUSED(cwb_tensor_at(&file, 0, NULL));
    EXPECT(cwb_tensor_at(&file, 0, &tensor), CWB_OK);
    REFUSED(cwb_find(NULL, "w", 1, &tensor));
    REFUSED(cwb_find(&file, NULL, 1, &tensor));
    REFUSED(cwb_find(&file, "w", 1, NULL));
    REFUSED(cwb_name(NULL, 0, &name, &name_length));
    REFUSED(cwb_name(&file, 0, NULL, &name_length));
    REFUSED(cwb_name(&file, 0, &name, NULL));
    REFUSED(cwb_section(NULL, CWB_MARGINS, &content, &length));
    REFUSED(cwb_section(&file, CWB_MARGINS, NULL, &length));
    REFUSED(cwb_section(&file, CWB_MARGINS, &content, NULL));
    REFUSED(cwb_margin(NULL, 0, &margin));
    REFUSED(cwb_margin(&file, 0, NULL));
    EXPECT(cwb_margin(&file, 0, &margin), CWB_OK);
    EXPECT(cwb_margin(&file, 9, &margin), CWB_ERR_NOT_FOUND);
    REFUSED(cwb_check(NULL, scratch, sizeof scratch));
    REFUSED(cwb_decode_i16(NULL, scratch, sizeof scratch, symbols, 65536));
    REFUSED(cwb_decode_i16(&tensor, scratch, sizeof scratch, NULL, 65536));
    REFUSED(cwb_decode_i8(&tensor, scratch, sizeof scratch, NULL, 65536));
    REFUSED(cwb_decode_f32(&tensor, scratch, sizeof scratch, NULL, 65536));
    EXPECT(cwb_decode_f32(&tensor, scratch, sizeof scratch, values, 65536), CWB_OK);
    REFUSED(cwb_exponents(NULL, exponents, 65536));
    REFUSED(cwb_exponents(&tensor, NULL, 65536));
    EXPECT(cwb_exponents(&tensor, exponents, 0), CWB_ERR_SPACE);
    EXPECT(cwb_exponents(&tensor, exponents, 65536), CWB_OK);
    REFUSED(cwb_begin(NULL, scratch, sizeof scratch, &coded));
    REFUSED(cwb_begin(&tensor, scratch, sizeof scratch, NULL));
    EXPECT(cwb_begin(&tensor, scratch, sizeof scratch, &coded), CWB_OK);
    REFUSED(cwb_read_i16(NULL, symbols, 1));
    REFUSED(cwb_read_i16(&coded, NULL, 1));
    REFUSED(cwb_read_i16(&coded, symbols, (size_t)tensor.count + 1));
    REFUSED(cwb_read_i8(NULL, (int8_t *)symbols, 1));
    REFUSED(cwb_read_i8(&coded, NULL, 1));
    REFUSED(cwb_read_i8(&coded, (int8_t *)symbols, (size_t)tensor.count + 1));
    EXPECT(cwb_read_i16(&coded, NULL, 0), CWB_OK);
    EXPECT(cwb_read_i8(&coded, NULL, 0), CWB_OK);
    REFUSED(cwb_end(NULL));
    REFUSED(cwb_end(&coded)); /* nothing was read */
    REFUSED(cwb_multiplier(0, ONE, ONE, &multiplier, &shift));
    REFUSED(cwb_multiplier(ONE, 0, ONE, &multiplier, &shift));
    REFUSED(cwb_multiplier(ONE, ONE, 0, &multiplier, &shift));
    REFUSED(cwb_multiplier(ONE, ONE, ONE, NULL, &shift));
    REFUSED(cwb_multiplier(ONE, ONE, ONE, &multiplier, NULL));
    /* (2^23 + 47) (2^23 + 178481) = 2^23 (2^23 + 178529) - 1: so close below one that rounding makes it one. */
    EXPECT(cwb_multiplier(ONE | 47, ONE | 178481, ONE | 178529, &multiplier, &shift), CWB_OK);
    if (multiplier != INT32_C(0x40000000) || shift != 1) {
        printf("multiplier %ld, shift %ld\n", (long)multiplier, (long)shift);
        failed = 1;
    }
    if (stream != NULL) {
        fclose(stream);
    }
    return failed;
}
