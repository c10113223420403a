"""Run the command line with ``python -m cerwu_onnx.cli``."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
