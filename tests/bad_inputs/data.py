"""Calibration data, metrics and functions that do not do."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable

import numpy as np

from .case import Case, Place
from .models import ESCAPE

Arguments = Callable[[Place], list[object]]
GOOD = np.ones((8, 2, 8, 8), np.float32)


def arrays(**named: object) -> Arguments:
    """A .npz of these."""

    def make(place: Place) -> list[object]:
        np.savez(place.folder / "bad.npz", **named)
        return place.compress(calib=place.folder / "bad.npz")

    return make


def data(content: bytes, name: str = "bad.npz") -> Arguments:
    return lambda place: place.compress(calib=place.write(name, content))


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=GOOD)
    return stream.getvalue()


def flipped() -> bytes:
    content = bytearray(npz())
    content[1000] ^= 1
    return bytes(content)


def declared(shape: tuple[int, ...]) -> Arguments:
    """An array of that shape by its header alone."""

    def make(place: Place) -> list[object]:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(place.folder / "bad.npz", "w") as archive:
            archive.writestr("x.npy", header.getvalue() + bytes(4096))
        return place.compress(calib=place.folder / "bad.npz")

    return make


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def objects(place: Place) -> list[object]:
    np.savez(place.folder / "bad.npz", x=np.array([Harm()], dtype=object))
    return place.compress(calib=place.folder / "bad.npz")


def with_value(value: float) -> Arguments:
    wrong = GOOD.copy()
    wrong[5, 0, 3, 3] = value
    return arrays(x=wrong)


def folder(*names: str) -> Arguments:
    def make(place: Place) -> list[object]:
        (place.folder / "data").mkdir()
        for name in names:
            (place.folder / "data" / name).write_bytes(b"nothing")
        return place.compress(None, "--layout", "NCHW", calib=place.folder / "data")

    return make


def function(body: str, name: str = "feeds") -> Arguments:
    """Calibration data from a Python file."""
    return lambda place: place.compress(calib=f"{place.write('user.py', body)}:{name}")


def metric(body: str, name: str = "score") -> Arguments:
    """A metric in a Python file."""
    return lambda place: place.compress(None, "--fail-drop", "1%", "--metric", f"{place.write('user.py', body)}:{name}")


def labelled(option: str, **named: object) -> Arguments:
    """A metric on labelled data."""

    def make(place: Place) -> list[object]:
        np.savez(place.folder / "test.npz", **named)
        return place.compress(None, "--fail-drop", "1%", "--metric", option, "--metric-data", place.folder / "test.npz")

    return make


CASES = [
    Case(
        "data that is not there", 2, "bad.npz: no such file or folder", lambda p: p.compress(calib=p.folder / "bad.npz")
    ),
    Case("an unknown kind of data", 3, "data.csv: calibration data is a .npz", data(b"1,2,3\n", "data.csv")),
    Case("a model for data", 3, "model.onnx: calibration data is", lambda p: p.compress(calib=p.model)),
    Case("an empty .npz file", 3, "bad.npz: not a readable .npz", data(b"")),
    Case("a text called .npz", 3, "bad.npz: not a readable .npz", data(b"x = 1\n")),
    Case("a .npz file cut in the middle", 3, "not a readable .npz", data(npz()[:2000])),
    Case("a .npz file with a flipped bit", 3, "bad.npz: cannot be read", data(flipped())),
    Case("a text called .npy", 3, "bad.npy: not a readable .npy", data(b"x = 1\n", "bad.npy")),
    Case("no array", 3, "misses 'x': it holds nothing", arrays()),
    Case("another key", 3, "misses 'x': it holds 'input'", arrays(input=GOOD)),
    Case("a key too many", 3, "unknown key 'y'", arrays(x=GOOD, y=GOOD)),
    Case("a key that is a path", 3, "unknown key", arrays(x=GOOD, **{"../../escaped": GOOD})),
    Case("a key of a terminal's commands", 3, r"\\x1b", arrays(x=GOOD, **{ESCAPE.replace("\0", ""): GOOD})),
    Case("another shape", 3, r"has shape \(8, 8, 8, 2\), the model needs", arrays(x=GOOD.transpose(0, 2, 3, 1))),
    Case("an axis too few", 3, r"has shape \(2, 8, 8\)", arrays(x=GOOD[0])),
    Case("a scalar", 3, r"has shape \(\)", arrays(x=np.float32(1))),
    Case("no sample", 3, "holds 0 samples", arrays(x=GOOD[:0])),
    Case("bytes for floats", 3, "is uint8, the model needs float32: convert", arrays(x=GOOD.astype(np.uint8))),
    Case("text for floats", 3, "the model needs float32", arrays(x=GOOD.astype("U3"))),
    Case("complex numbers", 3, "complex", arrays(x=GOOD.astype(np.complex64))),
    Case("Python objects", 3, "Python objects", objects),
    Case("NaN in a sample", 3, "NaN in sample 5", with_value(np.nan)),
    Case("infinity in a sample", 3, "infinite value in sample 5", with_value(np.inf)),
    Case("numbers beyond float32", 3, "infinite value", arrays(x=GOOD.astype(np.float64) * 1e300)),
    Case("10^15 samples by their header", 3, "bad.npz", declared((10**15, 2, 8, 8))),
    Case("2^70 samples by their header", 3, "bad.npz", declared((2**70, 2, 8, 8))),
    Case("-1 samples by their header", 3, "bad.npz", declared((-1, 2, 8, 8))),
    Case("an empty folder of data", 3, "holds no .npz", folder()),
    Case("a folder of everything", 3, "keep one kind", folder("a.npz", "b.npy")),
    Case("a data function that is not there", 2, "no function 'feeds'", function("x = 1\n")),
    Case("a data function that is a number", 2, "no function 'feeds'", function("feeds = 1\n")),
    Case("a data file with a wrong syntax", 3, "SyntaxError", function("def feeds(:\n")),
    Case("a data file that exits", 3, "SystemExit", function("import sys\nsys.exit(0)\n")),
    Case("a data file that is not there", 2, "no such Python file", lambda p: p.compress(calib=f"{p.out}.py:feeds")),
    Case("a data module that is not there", 2, "no module", lambda p: p.compress(calib="nowhere_at_all:feeds")),
    Case(
        "a data function that raises",
        3,
        "ValueError: broken lens",
        function("def feeds(): raise ValueError('broken lens')\n"),
    ),
    Case("a data function that exits", 3, "SystemExit", function("import sys\ndef feeds(): sys.exit(0)\n")),
    Case("a data function that wants arguments", 3, "TypeError", function("def feeds(path): yield {}\n")),
    Case("a data function that yields nothing", 3, "yields no feed", function("def feeds(): return []\n")),
    Case("a data function that returns nothing", 3, "TypeError", function("def feeds(): pass\n")),
    Case("a data function that yields text", 3, "feed 0", function("def feeds(): yield 'x'\n")),
    Case("a metric that is not known", 2, "'top5' is unknown", lambda p: p.compress(None, "--metric", "top5")),
    Case("a metric that raises", 3, "ValueError: no data", metric("def score(path): raise ValueError('no data')\n")),
    Case("a metric that raises commands", 3, r"\\x1b", metric(f"def score(path): raise ValueError({ESCAPE!r})\n")),
    Case("a metric that exits", 3, "SystemExit", metric("import sys\ndef score(path): sys.exit(0)\n")),
    Case("a metric that returns NaN", 3, "returned NaN", metric("def score(path): return float('nan')\n")),
    Case("a metric that returns text", 3, "returned 'good'; it must", metric("def score(path): return 'good'\n")),
    Case("a metric that returns nothing", 3, "returned None; it must", metric("def score(path): pass\n")),
    Case("a metric without a parameter", 3, "TypeError", metric("def score(): return 1.0\n")),
    Case("a metric that is no function", 2, "no function 'score'", metric("score = 0.5\n")),
    Case("a metric that is not there", 2, "no function 'score'", metric("x = 1\n")),
    Case("a metric with a wrong syntax", 3, "SyntaxError", metric("def score(path) return 1\n")),
    Case("a metric that lacks a module", 3, "nowhere_at_all", metric("import nowhere_at_all\n")),
    Case(
        "a metric without its data", 2, "needs data: give --metric-data", lambda p: p.compress(None, "--metric", "top1")
    ),
    Case("a metric without labels", 3, "no array 'labels' .--metric-labels", labelled("top1", x=GOOD)),
    Case("labels of another number", 3, "labels of shape", labelled("top1", x=GOOD, labels=np.zeros(7, int))),
    Case("labels that are words", 3, "numbers of classes", labelled("top1", x=GOOD, labels=np.array(["a"] * 8))),
    Case("labels that are NaN", 3, "numbers of classes", labelled("top1", x=GOOD, labels=np.full(8, np.nan))),
    Case("auc of ten classes", 3, "auc", labelled("auc", x=GOOD, labels=np.arange(8))),
]
