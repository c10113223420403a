"""C programs that run a model: the graph by emx-onnx-cgen, its weights from the .cwb file."""
