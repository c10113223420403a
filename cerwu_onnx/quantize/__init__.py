"""Quantise one layer: from matrices, Hessians and code lengths to symbols on a grid. No module here imports onnx."""
