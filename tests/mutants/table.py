"""All mutants."""

from __future__ import annotations

from . import c_sources, python_rooms

MUTANTS = [*python_rooms.MUTANTS, *c_sources.MUTANTS]
