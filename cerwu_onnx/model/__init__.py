"""ONNX models: reading them, their tensors, which weights multiply what, and a graph without its weights."""
