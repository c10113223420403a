"""Deltas, at both doors."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import cerwu_onnx

from ..compression.test_deltas import moved, network
from ..models import normal
from .conftest import Door
from .site import ROOT, Site
from .test_decode import MODEL, TENSORS, expected, rebuilt
from .test_errors import CATCH


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, site: Site) -> tuple[Path, Path]:
    """A base, and a delta over it."""
    folder = tmp_path_factory.mktemp("deltas")
    old = network()
    feeds = {"x": normal(200, 40, seed=8)}
    for name, model, base in (("old", old, None), ("new", moved(old, w=0.1, b=0.02, c=0.1), folder / "old.cwb")):
        onnx.save(model, folder / f"{name}.onnx")
        settings = cerwu_onnx.Settings(lambda_=0.05)
        cerwu_onnx.compress(folder / f"{name}.onnx", folder / f"{name}.cwb", calib=feeds, settings=settings, base=base)
    for name in ("old", "new"):
        site.answers[f"/{name}.cwb"] = (200, {}, (folder / f"{name}.cwb").read_bytes())
    return folder / "old.cwb", folder / "new.cwb"


def test_a_delta_over_its_base(files: tuple[Path, Path], door: Door, site: Site, tmp_path: Path) -> None:
    base, delta = files
    assert cerwu_onnx.open(delta, base=base).container.base is not None
    addresses = [f"{site.address}/{path.name}" for path in (delta, base)]
    assert door(TENSORS, addresses[0], 2, addresses[1]) == expected(delta, base)
    assert door(MODEL, addresses[0], 2, addresses[1]) == rebuilt(delta, tmp_path, base)


def test_bases_that_do_not_fit(files: tuple[Path, Path], door: Door, site: Site) -> None:
    base, delta = (f"{site.address}/{path.name}" for path in files)
    other = f"{site.address}/tests/golden/v1/model.cwb"
    for file, options in ((delta, {}), (delta, {"base": other}), (base, {"base": other})):
        _, _, code, message = door(CATCH, "verifyCwb", file, options)
        assert code == "base", message
    assert (ROOT / "tests/golden/v1/model.cwb").exists()
