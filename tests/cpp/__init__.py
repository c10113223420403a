"""The library for C++ hosts: its CMake package, its example, its header over a real onnxruntime."""
