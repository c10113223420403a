"""The models that are measured: ``sample_models``, and real ones beside the repository in ``../shared/models``.

The latter are never copied and never needed: where the folder is absent, nothing of it is measured.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "models"
SAMPLES = ROOT / "sample_models"
ABSENT = f"{SHARED.relative_to(ROOT.parent)} is not beside this repository: nothing to measure there"


@dataclass(frozen=True)
class BenchModel:
    """A folder with ``model.onnx``, ``calib.npz`` and ``eval.py``; ``anchors`` holds the peers' figures, if any."""

    folder: Path
    anchors: dict[str, Any]

    @property
    def name(self) -> str:
        """Folder name."""
        return self.folder.name

    @property
    def shared(self) -> bool:
        """Whether it is one of the real models, over which means are taken."""
        return self.folder.parent == SHARED

    @property
    def onnx(self) -> Path:
        """The float model."""
        return self.folder / "model.onnx"

    @property
    def calib(self) -> Path:
        """The calibration data, the only data a compressor may see."""
        return self.folder / "calib.npz"

    @property
    def chance(self) -> float:
        """The score of guessing, from which shares of the float score are counted: 0.5 for an AUC, else 0."""
        meta = json.loads((self.folder / "meta.json").read_text())
        return 0.5 if re.search(r"\bauc\b|roc", meta["metric"], re.IGNORECASE) else 0.0

    def evaluate(self) -> Callable[..., float]:
        """The score function of its ``eval.py``: ``evaluate(onnx_path, limit=None)``."""
        spec = importlib.util.spec_from_file_location(f"eval_{self.name}", self.folder / "eval.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        score: Callable[..., float] = module.evaluate
        return score


def shared_models(names: tuple[str, ...] = ()) -> list[BenchModel]:
    """The models of ``../shared/models`` (all, or those named); empty where the folder is absent."""
    if not SHARED.is_dir():
        return []
    anchors = json.loads((SHARED / "anchors.json").read_text())
    return _folders(SHARED, names, anchors)


def sample_models(names: tuple[str, ...] = ()) -> list[BenchModel]:
    """The repository's own models (all, or those named)."""
    return _folders(SAMPLES, names, {})


def _folders(root: Path, names: tuple[str, ...], anchors: dict[str, Any]) -> list[BenchModel]:
    folders = sorted(path.parent for path in root.glob("*/eval.py"))
    return [BenchModel(path, anchors.get(path.name, {})) for path in folders if not names or path.name in names]
