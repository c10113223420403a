"""The stages of ``compress``, from an ONNX model to a .cwb file; ``pipeline.py`` runs them in order."""
