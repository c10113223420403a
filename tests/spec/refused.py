"""What the decoder raises for a file that a reader must refuse."""

from __future__ import annotations


class Refused(Exception):
    """A reader must refuse the file, for the reason that is given."""


def refuse_if(condition: bool, why: str) -> None:
    """Raise Refused if the condition holds."""
    if condition:
        raise Refused(why)
