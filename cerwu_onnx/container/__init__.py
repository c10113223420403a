"""The .cwb file: docs/format.md in code. No onnx, onnxruntime or scipy here."""
