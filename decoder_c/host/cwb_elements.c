/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_elements.h.
 */
#include "cwb_elements.h"

#include "cwb_onnx.h"

#include <stdlib.h>
#include <string.h>

enum { UINT8 = 2, INT8, UINT16, INT16, INT32, INT64, BOOL = 9, UINT32 = 12, UINT64, FLOAT8_FIRST = 17, FLOAT8_LAST = 20, UINT4, INT4,
       FLOAT4, FLOAT8_EXPONENTS, UINT2, INT2 };

/* Types of numbers: bits of an element, and whether they are signed; floats by their bits. 0 bits: none of them. */
static uint32_t bits_of(int32_t type, int *is_signed)
{
    *is_signed = type == INT8 || type == INT16 || type == INT32 || type == INT64 || type == INT4 || type == INT2;
    switch (type) {
    case UINT2:
    case INT2:
        return 2;
    case UINT4:
    case INT4:
    case FLOAT4:
        return 4;
    case UINT8:
    case INT8:
    case BOOL:
    case FLOAT8_EXPONENTS:
        return 8;
    case UINT16:
    case INT16:
    case CWB_FLOAT16:
    case CWB_BFLOAT16:
        return 16;
    case INT32:
    case UINT32:
    case CWB_FLOAT32:
        return 32;
    case INT64:
    case UINT64:
    case CWB_FLOAT64:
        return 64;
    default:
        return type >= FLOAT8_FIRST && type <= FLOAT8_LAST ? 8 : 0;
    }
}

static int is_float(int32_t type)
{
    return type == CWB_FLOAT32 || type == CWB_FLOAT16 || type == CWB_FLOAT64 || type == CWB_BFLOAT16;
}

uint64_t cwb_element_bytes(const cwb_target *target, uint64_t count)
{
    int is_signed;
    uint32_t bits = target->halves ? 4 : bits_of(target->type, &is_signed);

    return (count * bits + 7) / 8;
}

static void put(uint8_t *out, uint64_t bits, uint32_t bytes)
{
    while (bytes-- > 0) {
        *out++ = (uint8_t)bits;
        bits >>= 8;
    }
}

static uint32_t float_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* A float32 number rounded to float16, to nearest even. */
static uint32_t half_bits(uint32_t bits)
{
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF, shift, mantissa, rest, half;

    if (magnitude >= 0x47800000) { /* 2^16 and more; a number that is none stays none */
        return sign | (magnitude > 0x7F800000 ? 0x7E00 : 0x7C00);
    }
    if (magnitude >= 0x38800000) { /* 2^-14: not subnormal */
        return sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13);
    }
    if (magnitude < 0x33000000) { /* below 2^-25 */
        return sign;
    }
    shift = 126 - (magnitude >> 23);
    mantissa = (magnitude & 0x7FFFFF) | 0x800000;
    rest = mantissa & ((UINT32_C(1) << shift) - 1);
    mantissa >>= shift;
    half = UINT32_C(1) << (shift - 1);
    return sign | (mantissa + (rest > half || (rest == half && (mantissa & 1))));
}

/* Writes a value as a float; 0 if it then is not finite. */
static int put_float(uint8_t *out, int32_t type, float value)
{
    uint32_t bits = float_bits(value);

    if (type == CWB_FLOAT16) {
        bits = half_bits(bits);
        put(out, bits, 2);
        return (bits & 0x7C00) != 0x7C00;
    }
    if (type == CWB_BFLOAT16) {
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
        put(out, bits, 2);
        return (bits & 0x7F80) != 0x7F80;
    }
    if (type == CWB_FLOAT64) {
        double wide = value;
        uint64_t wide_bits;

        memcpy(&wide_bits, &wide, sizeof wide_bits);
        put(out, wide_bits, 8);
    } else {
        put(out, bits, 4);
    }
    return (bits & 0x7F800000) != 0x7F800000;
}

/* A value plus the offset as an integer of the type, in its bits; 0 if it does not fit. */
static int integer_bits(const cwb_target *target, float value, uint64_t *result)
{
    int is_signed;
    uint32_t bits = bits_of(target->type, &is_signed);
    int64_t whole, sum, least, most;

    if (!(value >= -9223372036854775808.0F && value < 9223372036854775808.0F)) {
        return 0;
    }
    whole = (int64_t)value;
    if ((float)whole != value) {
        return 0;
    }
    *result = (uint64_t)whole + (uint64_t)target->offset; /* beyond int64, the sign of both tells */
    if (target->type == UINT64) {
        return (whole >= 0 && target->offset >= 0) || ((whole >= 0 || target->offset >= 0) && *result >> 63 == 0);
    }
    if (target->offset > 0 ? whole > INT64_MAX - target->offset : whole < INT64_MIN - target->offset) {
        return 0;
    }
    sum = whole + target->offset;
    bits = target->halves ? 4 : bits;
    least = is_signed ? -INT64_MAX - 1 : 0;
    most = INT64_MAX;
    if (bits < 64) {
        most = target->type == BOOL ? 1 : (int64_t)((UINT64_C(1) << (is_signed ? bits - 1 : bits)) - 1);
        least = is_signed ? -most - 1 : 0;
    }
    return sum >= least && sum <= most;
}

/* Writes number `index` of the elements; 0 if it does not fit. */
static int put_element(uint8_t *out, const cwb_target *target, size_t index, float value)
{
    int is_signed;
    uint32_t bits = target->halves ? 4 : bits_of(target->type, &is_signed);
    uint64_t number;

    if (is_float(target->type)) {
        return put_float(out + index * (bits / 8), target->type, value);
    }
    if (!integer_bits(target, value, &number)) {
        return 0;
    }
    if (bits < 8) { /* several in a byte, the first one lowest */
        size_t each = 8 / bits;

        out[index / each] = (uint8_t)(out[index / each] | (number & ((1U << bits) - 1)) << bits * (index % each));
    } else {
        put(out + index * (bits / 8), number, bits / 8);
    }
    return 1;
}

/* A tensor of shape (a, b, c) whose elements are stored in the order (a, c, b). */
typedef struct {
    size_t a, b, c;
} stored_shape;

static stored_shape shape_of(const cwb_tensor *tensor)
{
    stored_shape shape = {1, 1, tensor->count};
    uint32_t dims[CWB_MAX_RANK];
    uint32_t last = tensor->rank > 1 ? tensor->rank - 1U : 1;

    cwb_shape(tensor, dims);
    if (tensor->order == CWB_AXIS0_LAST) {
        shape.b = dims[0];
    } else if (tensor->order == CWB_AXIS1_LAST) {
        shape.a = dims[0];
        shape.b = dims[1];
    } else if (tensor->order == CWB_LAST_TWO_SWAPPED) {
        shape.b = dims[last - 1];
        shape.a = tensor->count / (shape.b * dims[last]);
    }
    shape.c = tensor->count / (shape.a * shape.b);
    return shape;
}

/* Brings values to row-major order and to their type. Blocks keep the rows that are read in the cache. */
static int put_values(uint8_t *out, const cwb_target *target, const float *values, const stored_shape *shape)
{
    enum { BLOCK = 16 };
    size_t a, b, c, first, last;

    for (a = 0; a < shape->a; a++) {
        const float *from = values + a * shape->b * shape->c;

        for (first = 0; first < shape->c; first = last) {
            last = shape->b > 1 && shape->c - first > BLOCK ? first + BLOCK : shape->c;
            for (b = 0; b < shape->b; b++) {
                size_t index = (a * shape->b + b) * shape->c;

                for (c = first; c < last; c++) {
                    float value = from[c * shape->b + b];

                    if (target->type == CWB_FLOAT32) {
                        put(out + 4 * (index + c), float_bits(value), 4);
                    } else if (!put_element(out, target, index + c, value)) {
                        return CWB_ONNX_ERR_TENSORS;
                    }
                }
            }
        }
    }
    return CWB_OK;
}

/* Elements of a raw tensor, which are float32 if they are to become something else. */
static int put_raw(uint8_t *out, const cwb_target *target, const cwb_tensor *tensor)
{
    size_t i;
    int error = cwb_check(tensor, NULL, 0);

    if (error != CWB_OK) {
        return error;
    }
    if (target->type == 0) {
        if (tensor->payload_size > 0) {
            memcpy(out, tensor->payload, tensor->payload_size);
        }
        return CWB_OK;
    }
    for (i = 0; i < tensor->count; i++) {
        const uint8_t *bytes = tensor->payload + 4 * i;
        uint32_t bits = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
        float value;

        memcpy(&value, &bits, sizeof value);
        if (!put_element(out, target, i, value)) {
            return CWB_ONNX_ERR_TENSORS;
        }
    }
    return CWB_OK;
}

static int is_little_endian(void)
{
    uint16_t one = 1;
    uint8_t first;

    memcpy(&first, &one, 1);
    return first;
}

int cwb_decode_elements(const cwb_changed *changed, const cwb_target *target, uint8_t *out)
{
    const cwb_tensor *tensor = &changed->tensor;
    cwb_target as_float = {CWB_FLOAT32, 0, 0};
    size_t scratch_size = cwb_delta_scratch_size(changed), gap = (scratch_size + sizeof(float) - 1) / sizeof(float);
    stored_shape shape;
    void *memory; /* scratch, and behind it the values */
    float *values;
    int direct, error;

    if (target->type != 0) {
        memset(out, 0, (size_t)cwb_element_bytes(target, tensor->count));
    }
    if (tensor->kind == CWB_RAW) {
        return put_raw(out, target, tensor);
    }
    shape = shape_of(tensor);
    direct = target->type == 0 && shape.b == 1 && is_little_endian() && (uintptr_t)out % sizeof(float) == 0;
    if (!direct && tensor->count > SIZE_MAX / sizeof(float) - gap) {
        return CWB_ONNX_ERR_MEMORY;
    }
    memory = malloc((gap + (direct ? 0 : tensor->count)) * sizeof(float));
    if (memory == NULL) {
        return CWB_ONNX_ERR_MEMORY;
    }
    values = direct ? (float *)(void *)out : (float *)memory + gap;
    error = cwb_delta_decode_f32(changed, memory, scratch_size, values, tensor->count);
    if (error == CWB_OK && !direct) {
        error = put_values(out, target->type == 0 ? &as_float : target, values, &shape);
    }
    free(memory);
    return error;
}
