"""Quantisation of one layer: matrices, Hessians and rates in; symbols on a grid out. No onnx here."""
