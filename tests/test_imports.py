"""Who may import whom: docs/architecture.md, as rules between folders."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("errors", "types", "_version"),
    ("config", "native", "report", "user_functions"),
    ("entropy", "jobs", "native_model"),
    ("container", "quantize", "array_files"),
    ("model", "firmware"),
    ("calibration",),
    ("runtime",),
    ("evaluate", "report_files", "inference", "verify_files"),
    ("compression", "stock"),
)
"""Rooms of cerwu_onnx/, lowest first. A room imports from floors below its own, and from no other room of its floor."""


ONNX = {"model", "calibration", "runtime", "evaluate", "compression", "stock", "inference"}
"""Rooms that may import onnx and onnxruntime."""

SCIPY = ONNX | {"quantize"}


def modules(folder: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def imports(module: Path) -> set[tuple[str, ...]]:
    """Absolute names of everything a file imports, at module level or inside functions, type checking apart."""
    here = module.with_suffix("").parts
    found: set[tuple[str, ...]] = set()
    tree = ast.parse((ROOT / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            name = (*base, *(node.module.split(".") if node.module else ()))
            found |= {(*name, alias.name) for alias in node.names}
    return found


def room(module: Path) -> str:
    """The room of a file of the package: ``cerwu_onnx/quantize/obs.py`` -> ``quantize``."""
    return module.with_suffix("").parts[1]


@pytest.mark.parametrize("module", modules("cerwu_onnx"), ids=str)
def test_imports_point_downwards(module: Path) -> None:
    own = room(module)
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for name in imports(module):
        assert name[0] not in {"typer", "rich", "torch", "constriction"}, f"{module} imports {'.'.join(name)}"
        if name[0] in {"onnx", "onnxruntime", "google"}:
            assert own in ONNX, f"{module} imports {'.'.join(name)}: {own} gets arrays and dataclasses instead"
        if name[0] == "scipy":
            assert own in SCIPY, f"{module} imports {'.'.join(name)}"
        if name[0] != "cerwu_onnx" or own == "__init__":
            continue
        other = name[1] if len(name) > 1 else "__init__"
        if other not in floor:  # the package itself: where it is on the disk
            assert other == "__init__", f"{module} imports {'.'.join(name)}: say in FLOORS where {other} stands"
        elif other != own:
            assert floor[other] < floor[own], f"{module} imports {'.'.join(name)}, which does not stand below it"


def test_data_is_opened_for_a_model() -> None:
    """What opens data without its model never learns that the model takes one sample at a time."""
    for module in modules("cerwu_onnx"):
        if room(module) != "calibration":
            assert all(name[-1] != "open_source" for name in imports(module)), f"{module}: use open_data"


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in modules("cerwu_onnx")} - {"__init__"}
    assert rooms == {name for names in FLOORS for name in names}


@pytest.mark.parametrize("folder", ["cerwu_onnx", "cli"])
def test_no_circles(folder: str) -> None:
    """Modules of one folder do not need each other in a circle, not even inside functions."""
    known = {tuple(part for part in path.with_suffix("").parts if part != "__init__"): path for path in modules(folder)}
    needs = {
        module: {
            known[max(prefixes)]
            for name in imports(module)
            if (prefixes := [name[:end] for end in range(1, len(name) + 1) if name[:end] in known])
        }
        for module in known.values()
    }
    for _ in range(len(needs)):  # take away what needs nothing that is left
        needs = {
            module: others & needs.keys() - {module}
            for module, others in needs.items()
            if others & needs.keys() - {module}
        }
    assert not needs, f"these need each other: {', '.join(map(str, needs))}"


def test_the_page_has_every_room_on_its_floor_and_every_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`.*`) \|$", page, re.MULTILINE)
    assert [(int(floor), re.findall(r"`(\w+)`", names)) for floor, names in reversed(rows)] == [
        (floor, list(names)) for floor, names in enumerate((*FLOORS, ("cli",)), 1)
    ]
    sections = page.partition("## What flows")[0].split("\n### ")
    for module in modules("cerwu_onnx"):
        place = "The root" if len(module.parts) == 2 else f"`{module.parts[1]}/`"
        (section,) = (section for section in sections if section.startswith(place))
        assert module.name == "__init__.py" or f"`{module.name}`" in section, f"docs/architecture.md lacks {module}"


def test_the_root_is_small() -> None:
    assert len(list((ROOT / "cerwu_onnx").glob("*.py"))) <= 10


def loaded(statement: str) -> set[str]:
    """Which heavy packages a statement loads in a fresh interpreter."""
    heavy = ("onnx", "onnxruntime", "scipy", "constriction", "numpy")
    code = f"{statement}\nimport sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
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


def test_no_room_hides_a_public_name() -> None:
    """Importing ``cerwu_onnx.room`` sets an attribute of the package: a function of that name would be gone."""
    import cerwu_onnx

    rooms = {module.with_suffix("").parts[1] for module in modules("cerwu_onnx")}
    assert not rooms & set(cerwu_onnx.__all__)
