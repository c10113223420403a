"""The runner of the command line's own tests."""

from tests.cli.conftest import _calib, _cwb, run

__all__ = ["_calib", "_cwb", "run"]
