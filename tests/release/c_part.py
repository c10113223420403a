"""A wheel without its C part works, slowly; one that is published must have it. Run where the wheel is installed."""

import sys

from cerwu_onnx import native

sys.exit(native.unavailable_reason())
