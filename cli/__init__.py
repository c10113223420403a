"""The command line of cerwu-onnx. Modules are imported only when they are needed, so ``--help`` answers at once."""

from __future__ import annotations


def main() -> int:
    """Run the program on ``sys.argv``; the return value is the exit code."""
    from . import signals

    signals.install()
    try:
        from .app import run

        return run()
    except KeyboardInterrupt as interrupt:  # during the imports; run() handles later ones
        return signals.code_of(interrupt)
