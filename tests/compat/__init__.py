"""The compatibility bench: does every ONNX model go through, and does nothing get lost?"""
