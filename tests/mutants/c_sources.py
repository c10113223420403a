"""Mutants of the decoder and of the host's part of the native library, both in C.

A mutant of the decoder names the folder of its sources: its text may move from one of them to another.
"""

from __future__ import annotations

from .mutant import bugs

RULES = "tests/c/test_decoder_c.py::test_each_broken_rule_has_its_error"
"""Files that break one rule each, and the error that each must give."""

DECODER = [
    *bugs(
        "decoder_c/src",
        RULES,
        ("byte > 0x0F", "byte > 0x1F"),
        (" || (shift > 0 && byte == 0)", ""),
        ("step - LEAST_STEP >= STEPS", "step - LEAST_STEP > STEPS"),
        ("tensor->count >> (32 - item) != 0", "tensor->count >> (33 - item) != 0"),
        ("record.kind <= last : last > 0", "record.kind < last : last > 0"),
        ("size - 1 >= MAX_NAME", "size - 1 > MAX_NAME"),
        ("return c.p != c.end ? CWB_ERR_NAME : ", "return "),
        ("last < 0 || last > most", "last < 0 || last > most + 1"),
        ("stream->kind = DAMAGED;", ""),
        ("stream->next != stream->end || (HAS_ANS", "(HAS_ANS"),
        ("if (error == CWB_OK && crc != tensor->crc) {", "if (0) {"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_decoder_c.py::test_ranks_and_raw_types",
        ("last > divide(MAX_COUNT, product)", "last >= divide(MAX_COUNT, product)"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_decoder_c.py::test_round_trip tests/c/test_decoder_c.py::test_the_least_int8",
        ("(1 + divide(weight_of(", "(0 + divide(weight_of("),
        ("if (tile[i] > INT8_MAX) {", "if (tile[i] > INT8_MAX + 1) {"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_decoder_c.py::test_trellis_round_trip tests/c/test_decoder_c.py::test_adaptive_round_trip "
        "tests/c/test_decoder_c.py::test_round_trip tests/c/test_decoder_c.py::test_gaps_in_a_table",
        (" + (grid & (index < 0));", ";"),
        ("? 9 : 33", "? 9 : 32"),
        ("stream->run_left = stream->run;", "stream->run_left = FOREVER;"),
        ("return stream->header & SLOW ? 8 : 6;", "return 8;"),
        ("spare -= *entry != 0;", "spare -= 1;"),
        ("(p >> 8 | 1)", "(p >> 8)"),
        ("SIGNS + 4 * above + stream->left;", "SIGNS + 4 * stream->left + above;"),
        ("UINT32_C(0xFFFF) >> rate", "UINT32_C(0x10000) >> rate"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_decoder_c.py::test_the_largest_state_that_reads_a_word",
        ("UNLIKELY(state <= 0xFFFF)", "UNLIKELY(state < 0xFFFF)"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_arguments.py",
        ("if (stream == NULL || stream->symbols_left > 0) {", "if (stream == NULL) {"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_decoder_c.py::test_misuse",
        ("if (capacity < tensor->count || ", "if ("),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_decoder_c.py::test_the_least_int8",
        ("if (to == TO_I8 && tensor->largest > INT8_MAX + 1) {", "if (0) {"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/c/test_in_place.py",
        ("value <= tensor.payload_size && tensor.payload_size - value", "tensor.payload_size - value"),
        ("tensor.payload_size - value <= tensor.count", "1"),
    ),
    *bugs(
        "decoder_c/src",
        "tests/firmware/test_requantize.py",
        ("quotient = (quotient + ((uint32_t)1 << (extra - 1))) >> extra;", "quotient >>= extra;"),
        ("if (exponent > 30) {", "if (exponent > 31) {"),
    ),
]

HOST = [
    *bugs(
        "decoder_c/host/cwb_encode.c",
        "tests/entropy/test_adaptive.py tests/entropy/test_tables.py tests/entropy/test_trellis_coding.py",
        ("(UINT32_C(0x10000) >> c->rate) - 1", "(UINT32_C(0x10000) >> c->rate)"),
        ("if (state >> 20 >= width) {", "if (state >> 20 > width) {"),
        ("            far = 0;", "            ;"),
    ),
    *bugs(
        "decoder_c/host/cwb_pack.c",
        "tests/container/test_packed.py tests/c/test_pack.py",
        ("counts[bit] + 1 : 15", "counts[bit] + 1 : 14"),
        ("end > m->position ? end - m->position : 0", "end - m->position"),
        ("return next >= code_size && ", "return "),
    ),
    *bugs(
        "decoder_c/host/cwb_search.c",
        "tests/quantize/test_trellis.py::test_both_implementations_agree",
        ("#define AHEAD 40", "#define AHEAD 0"),
        ("rest[k] -= effect", "rest[k] += effect"),
    ),
]

MUTANTS = [*DECODER, *HOST]
