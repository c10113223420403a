"""Who may import whom: docs/design.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cerwu_onnx"
MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))
HEAVY = ("onnx", "onnxruntime", "scipy", "constriction")
LAYERS = (
    ("errors", "types"),
    (
        "config",
        "files",
        "layout",
        "entropy",
        "native",
        "search",
        "progress",
        "confidence",
        "cache",
        "threads",
        "parallel",
    ),
    ("container", "quantize", "report", "elements", "placeholders", "onnx_io", "flat", "loading", "sessions", "hooks"),
    (
        "graph",
        "roles",
        "uses",
        "sites",
        "affine",
        "fold",
        "dequantize",
        "skeleton",
        "references",
        "storage",
        "lossless",
        "calibration",
    ),
    ("allocate", "allocation", "budget", "metrics", "encode", "shelf", "rules", "fingerprint"),
    ("single",),
    ("quantizer",),
    ("pipeline", "runtime", "firmware"),
    ("reports", "lambdas"),
)
FORBIDDEN = {
    "quantize": {"onnx", "onnxruntime", "constriction", "google"},
    "entropy": {"onnx", "onnxruntime", "scipy", "google"},
    "container": {"onnx", "onnxruntime", "scipy", "constriction", "google"},
    "firmware": {"onnx", "onnxruntime", "scipy", "constriction", "google"},
    "layout": {"onnx", "onnxruntime", "scipy", "constriction", "google"},
}


def imports(path: Path) -> set[tuple[str, ...]]:
    """Absolute names of everything a file imports, at module level or inside functions, type checking apart."""
    here = ("cerwu_onnx", *path.with_suffix("").relative_to(PACKAGE).parts)
    found: set[tuple[str, ...]] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            found |= {(*module, alias.name) for alias in node.names}
    return found


def part(name: tuple[str, ...]) -> str:
    """The part of the house a module belongs to: ``cerwu_onnx.quantize.obs`` -> ``quantize``."""
    return name[1] if len(name) > 1 else ""


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downwards(module: Path) -> None:
    own = module.with_suffix("").parts[1]
    if own == "__init__":
        return
    rank = {name: level for level, names in enumerate(LAYERS) for name in names}
    assert own in rank, f"{own} is missing from LAYERS: say where it stands"
    for name in imports(PACKAGE.parent / module):
        if name[0] == "cerwu_onnx":
            other = part(name)
            assert other != "cli", f"{module} imports the command line"
            if other != own and other in rank:
                assert rank[other] <= rank[own], f"{module} imports {'.'.join(name)}, which stands above it"
        assert name[0] not in FORBIDDEN.get(own, set()), f"{module} imports {'.'.join(name)}"
        assert name[0] not in {"typer", "rich", "torch"}, f"{module} imports {'.'.join(name)}"


def loaded(statement: str) -> set[str]:
    """Which heavy packages a statement loads in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {(*HEAVY, 'numpy')!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import cerwu_onnx") == set()


def test_reading_a_file_needs_no_onnx() -> None:
    assert not loaded("import cerwu_onnx; cerwu_onnx.open") & {"onnx", "onnxruntime", "scipy"}


def test_public_names_exist() -> None:
    import cerwu_onnx

    for name in cerwu_onnx.__all__:
        assert getattr(cerwu_onnx, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cerwu_onnx.nonsense  # noqa: B018
    assert "compress" in dir(cerwu_onnx)
