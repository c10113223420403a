"""The texts that export-c writes: header, source and memory table."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cerwu_onnx._version import __version__
from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware import c_source
from cerwu_onnx.firmware.index import ORDERS, FirmwareTensor


def header(
    name: str,
    container: Container,
    data: bytes,
    tensors: tuple[FirmwareTensor, ...],
    scratch: int,
    arrays: Mapping[str, tuple[int, ...]],
    more: str = "",
) -> str:
    """The text of the .h file; ``more`` is added at its end."""
    upper = name.upper()
    metadata = container.metadata()
    about = ", ".join(f"{key} {metadata[key]}" for key in ("model", "method", "lambda", "levels") if key in metadata)
    lines = [
        f"/* {c_source.comment_text(f'Written by cerwu-onnx {__version__} export-c.')}",
        *([f" * {c_source.comment_text(about)}"] if about else []),
        " *",
        f" * cwb_open(&file, {name}_cwb, sizeof {name}_cwb) opens the model,",
        f" * cwb_tensor_at(&file, {upper}_TENSOR_..., &tensor) finds a tensor: see cwb.h. */",
        f"#ifndef {upper}_CWB_H",
        f"#define {upper}_CWB_H",
        "",
        '#include "cwb.h"',
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"#define {upper}_SIZE UINT32_C({len(data)}) /* bytes of the file */",
        f"#define {upper}_SCRATCH_BYTES {max(scratch, 2)} /* scratch memory that every tensor can do with */",
        f"#define {upper}_LARGEST UINT32_C({_largest(tensors)}) /* elements of the largest coded tensor */",
        "",
        "/* The tensors, in the order of the file. */",
        "enum {",
        *(f"    {upper}_TENSOR_{tensor.identifier} = {index}," for index, tensor in enumerate(tensors)),
        f"    {upper}_TENSORS = {len(tensors)}",
        "};",
        "",
    ]
    for tensor, record in zip(tensors, container.tensors, strict=True):
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        order = f", {ORDERS[tensor.order]}" if record.is_coded else ""
        kind = f"{tensor.coding} {record.element.name.lower()}"
        lines.append(f"/* {c_source.comment_text(f'{tensor.name}: {shape}, {kind}{order}')} */")
        lines.append(f"#define {upper}_COUNT_{tensor.identifier} UINT32_C({tensor.elements})")
        if record.stepped:
            rows = math.prod(record.row_shape)
            lines.append(f"#define {upper}_EXPONENTS_{tensor.identifier} UINT32_C({rows})")
        if record.is_coded:
            about = " /* times 2 to the power of -e: cwb_exponents */" if record.stepped else ""
            lines.append(f"#define {upper}_STEP_{tensor.identifier} {c_source.float_literal(record.step)}{about}")
        if tensor.in_place is not None:
            lines.append(f"#define {upper}_IN_PLACE_{tensor.identifier} UINT32_C({tensor.in_place})")
    declarations = [f"extern const int32_t {array}[{len(values)}];" for array, values in arrays.items()]
    lines += [
        "",
        f"extern const uint8_t {name}_cwb[{upper}_SIZE];",
        *(
            ["", "/* For int8 kernels, one value per output: docs/firmware.md. */", *declarations]
            if declarations
            else []
        ),
        *(["", more.rstrip()] if more else []),
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def source(name: str, data: bytes, arrays: Mapping[str, tuple[int, ...]]) -> str:
    """The text of the .c file."""
    upper = name.upper()
    parts = [
        f"/* {c_source.comment_text(f'Written by cerwu-onnx {__version__} export-c.')} */",
        f'#include "{name}.h"',
        "",
        f"/* Define {upper}_PLACE to put the file elsewhere, say in a section of external flash. */",
        f"#ifndef {upper}_PLACE",
        "#ifdef __GNUC__",
        f"#define {upper}_PLACE __attribute__((aligned(8)))",
        "#else",
        f"#define {upper}_PLACE",
        "#endif",
        "#endif",
        "",
        f"const uint8_t {name}_cwb[{upper}_SIZE] {upper}_PLACE = {c_source.byte_array(data)};",
    ]
    for array, values in arrays.items():
        parts += ["", f"const int32_t {array}[{len(values)}] = {c_source.int_array(values)};"]
    return "\n".join(parts) + "\n"


def _largest(tensors: tuple[FirmwareTensor, ...]) -> int:
    return max((tensor.elements for tensor in tensors if tensor.coding != "exact"), default=0)


def readme(
    name: str,
    data: bytes,
    tensors: tuple[FirmwareTensor, ...],
    scratch: int,
    arrays: Mapping[str, tuple[int, ...]],
    *,
    runs: bool = False,
) -> str:
    """The table of flash and RAM; ``runs`` if a program runs the model."""
    constants = 4 * sum(map(len, arrays.values()))
    rows = [
        f"| `{c_source.comment_text(tensor.name)}` | {'x'.join(map(str, tensor.shape)) or 'scalar'} | {tensor.coding} "
        f"| {ORDERS[tensor.order] if tensor.coding != 'exact' else '-'} | {tensor.flash} | {tensor.scratch or '-'} "
        f"| {_decoded(tensor)} |"
        for tensor in tensors
    ]
    rest = len(data) - sum(tensor.flash for tensor in tensors)
    sources = (f"{name}.c", *([f"{name}_run.c"] if runs else []), "cwb.c")
    lines = [
        f"# {name}: a compressed model for firmware",
        "",
        f"Compile {', '.join(f'`{file}`' for file in sources)}, with this folder on the include path.",
        "Link the C library and its mathematics (`-lm`)." if runs else "Nothing else is needed.",
        "",
        "| flash | bytes |",
        "|---|---:|",
        f"| tensors | {sum(tensor.flash for tensor in tensors)} |",
        f"| header and sections of the file | {rest} |",
        *([f"| constants of int8 kernels | {constants} |"] if constants else []),
        f"| **all data** | **{len(data) + constants}** |",
        "",
        "The decoder's code comes on top. Your linker's map tells how much of it is kept; `arm-none-eabi-size cwb.o`",
        "shows all of it, about twice as much.",
        "",
        f"RAM: {scratch} bytes of scratch memory (`{name.upper()}_SCRATCH_BYTES`), one tensor at a time. Besides,",
        "a `cwb_file`, a `cwb_tensor`, a `cwb_stream`, and room for what you decode: a tile or a whole tensor.",
        "",
        "| tensor | shape | coding | order | flash | scratch | decoded: int8 / int16 / float32 |",
        "|---|---|---|---|---:|---:|---:|",
        *rows,
        "",
        "All numbers are bytes. Exact tensors are read where they lie in flash. Decoding in place takes a buffer of",
        f"`{name.upper()}_IN_PLACE_...` bytes (`{name}.h`).",
    ]
    return "\n".join(lines) + "\n"


def _decoded(tensor: FirmwareTensor) -> str:
    if tensor.coding == "exact":
        return "-"
    int8 = "no" if tensor.in_place is None else str(tensor.elements)
    return f"{int8} / {2 * tensor.elements} / {4 * tensor.elements}"
