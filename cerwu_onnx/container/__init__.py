"""Read and write .cwb files, as docs/format.md describes them. No module here imports onnx, onnxruntime or scipy."""
