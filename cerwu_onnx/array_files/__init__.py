"""Files of named arrays, .npz and .safetensors: read, trusting nothing in them, and written. Needs numpy alone."""

from __future__ import annotations

from cerwu_onnx.array_files.files import SUFFIXES, ArrayFile, is_array_file, read_arrays, write_arrays

__all__ = ["SUFFIXES", "ArrayFile", "is_array_file", "read_arrays", "write_arrays"]
