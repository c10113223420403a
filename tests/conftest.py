"""No test depends on how long something takes: machines are shared, and the first call may load a library."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
