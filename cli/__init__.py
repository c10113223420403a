"""The command line of cerwu-onnx. Nothing is imported before it is needed: ``--help`` answers at once."""

from __future__ import annotations


def main() -> int:
    """Run the program on ``sys.argv``; the return value is the exit code."""
    from . import signals

    signals.install()
    try:
        from .app import run

        return run()
    except KeyboardInterrupt as interrupt:  # during the imports; run() sees to the rest
        return signals.code_of(interrupt)
