"""Options, paths and .cwb files that cannot be meant."""

from __future__ import annotations

import os
from collections.abc import Callable

from .case import Case, Place

Arguments = Callable[[Place], list[object]]


def options(*values: object) -> Arguments:
    return lambda place: place.compress(None, *values)


def to(name: str, *values: object) -> Arguments:
    """The good model to another output."""
    return lambda place: ["compress", place.model, place.folder / name, "--calib", place.calib, *values]


def existing(place: Place) -> list[object]:
    place.write("out.cwb", b"precious")
    return place.compress()


def report_exists(place: Place) -> list[object]:
    place.write("report.md", b"precious")
    return place.compress(None, "--report", place.folder / "report.md")


def to_folder(place: Place) -> list[object]:
    (place.folder / "out.cwb").mkdir()
    return place.compress(None, "--force")


def to_pipe(place: Place) -> list[object]:
    """What /dev/null is to root: replacing it would take it from everybody."""
    os.mkfifo(place.folder / "out.cwb")
    return place.compress(None, "--force")


def damaged(change: Callable[[bytes], bytes], *command: str) -> Arguments:
    """A command on the good file after a change; ``BAD`` stands for it, ``OUT`` for an output."""

    def make(place: Place) -> list[object]:
        bad = place.write("bad.cwb", change(place.cwb.read_bytes()))
        names = {
            "BAD": bad,
            "OUT": place.out,
            "OUT.onnx": f"{place.out}.onnx",
            "MODEL": place.model,
            "CALIB": place.calib,
        }
        return [names.get(word, word) for word in command]

    return make


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def newer(data: bytes) -> bytes:
    return data[:4] + bytes([data[4] + 1]) + data[5:]


def renamed(data: bytes) -> bytes:
    return b"PK\3\4" + data[4:]


COMMANDS = {
    "inspect": ("inspect", "BAD"),
    "verify": ("verify", "BAD"),
    "decompress": ("decompress", "BAD", "OUT.onnx"),
    "report": ("report", "BAD"),
    "compare": ("compare", "MODEL", "BAD", "--data", "CALIB"),
    "calibrate": ("calibrate", "BAD", "OUT", "--calib", "CALIB"),
    "export-c": ("export-c", "BAD", "OUT"),
}
DAMAGE = {
    "cut in half": half,
    "with a flipped bit": flip,
    "with another signature": renamed,
    "of a newer version": newer,
    "empty": lambda data: b"",
}
FLIPS = {"inspect"}
"""Commands that do not read the weights, so a flipped bit there is not theirs to see."""


def on_files() -> list[Case]:
    """Each command on each damaged file."""
    return [
        Case(f"{name} of a file {kind}", 4, r"bad\.cwb", damaged(change, *words))
        for name, words in COMMANDS.items()
        for kind, change in DAMAGE.items()
        if not (kind == "with a flipped bit" and name in FLIPS)
    ]


CASES = [
    Case("an option that does not exist", 2, "--lamda.*--help", options("--lamda", "1")),
    Case("an option without its value", 2, "--lambda.*--help", options("--lambda")),
    Case("lambda -1", 2, "lambda -1.* out of range", options("--lambda", "-1")),
    Case("lambda NaN", 2, "lambda nan is out of range", options("--lambda", "nan")),
    Case("lambda infinite", 2, "lambda inf is out of range", options("--lambda", "inf")),
    Case("lambda that is a word", 2, "--lambda", options("--lambda", "small")),
    Case("one level", 2, "levels 1 is out of range", options("--levels", "1")),
    Case("half a level", 2, "--levels", options("--levels", "2.5")),
    Case("damping 0", 2, "damping 0.0 is out of range", options("--damping", "0")),
    Case("damping NaN", 2, "damping nan is out of range", options("--damping", "nan")),
    Case("no pass", 2, "passes 0 is out of range", options("--passes", "0")),
    Case("batches of nothing", 2, "batch size 0 is out of range", options("--batch-size", "0")),
    Case("a byte of memory", 2, "memory 1 bytes is too little", options("--memory", "1")),
    Case("a method with a typo", 2, "'treliss' is unknown: choose one of", options("--method", "treliss")),
    Case("an unknown coder", 2, "'zip' is unknown", options("--coder", "zip")),
    Case("a decode cost of 0", 2, "max decode cost 0.0 is out of range", options("--max-decode-cost", "0")),
    Case("a decode cost for one coder", 2, "leave out coder ans", options("--max-decode-cost", "45", "--coder", "ans")),
    Case("an unknown effort", 2, "'high' is unknown", options("--effort", "high")),
    Case("an unknown loss", 2, "'l1' is unknown: choose one of", options("--output-loss", "l1")),
    Case("a loss of an output that is not there", 2, "the model has no output 'z'", options("--output-loss", "z=kl")),
    Case("an unknown layout of weights", 2, "'nhwc' is unknown", options("--weight-layout", "nhwc")),
    Case("an unknown way with biases", 2, "'all' is unknown", options("--float-params", "all")),
    Case("a target of 0 bytes", 2, "target size 0 is out of range", options("--target-size", "0")),
    Case("a target of -1 bytes", 2, "'-1' is not understood", options("--target-size", "-1")),
    Case(
        "a target in an unknown unit",
        2,
        "'64 kilos' is not understood: write 512MiB",
        options("--target-size", "64 kilos"),
    ),
    Case("a target of 10^400 bytes", 2, "is not understood", options("--target-size", "1" + "0" * 400)),
    Case(
        "a target that cannot be",
        1,
        "no file of at most 100 bytes.*nothing was written",
        options("--target-size", "100"),
    ),
    Case("NaN bits per weight", 2, "bits per weight nan", options("--target-bpw", "nan")),
    Case("two targets", 2, "exclude each other", options("--target-size", "9K", "--target-bpw", "2")),
    Case("a target and lambda", 2, "exclude each other", options("--target-size", "9K", "--lambda", "1")),
    Case(
        "a target for a method without lambda",
        2,
        "no lambda to search",
        options("--target-size", "9K", "--method", "rtn"),
    ),
    Case(
        "a drop of 200 %",
        2,
        "max drop 200 % is out of range: give less than 100 %",
        options("--max-drop", "200%", "--metric", "top1"),
    ),
    Case("a drop of 1", 2, "--max-drop '1' would be 100 %: write 1%", options("--max-drop", "1", "--metric", "top1")),
    Case("a drop below zero", 2, "'-1%' is not understood", options("--max-drop", "-1%", "--metric", "top1")),
    Case("a drop of no metric", 2, "max drop needs a metric", options("--max-drop", "1%")),
    Case("a limit that is broken", 1, "above the limit of 9; nothing was written", options("--fail-above", "9")),
    Case("means that are words", 2, "'a,b' is not understood", options("--mean", "a,b")),
    Case("an unknown layout of images", 2, "'CHWN' is unknown", options("--layout", "CHWN")),
    Case("a report of an unknown kind", 2, r"report .*\.pdf: the suffix", options("--report", "report.pdf")),
    Case("a report over the output", 2, "report", lambda p: p.compress(None, "--report", f"{p.out}.cwb")),
    Case("a report into a folder that is not there", 2, "does not exist", options("--report", "nowhere/report.md")),
    Case("a report that exists", 2, "exists: use -f", report_exists),
    Case("the output is the model", 2, "is the input itself", to("model.onnx", "--force")),
    Case("the output exists", 2, "exists: use -f", existing),
    Case("the output is a folder", 2, "is a folder: give a file", to_folder),
    Case("the output's folder is not there", 2, "does not exist: create it", to("nowhere/out.cwb")),
    Case("the output's folder is a file", 2, "calib.npz", to("calib.npz/out.cwb")),
    Case("an output name of 300 letters", 2, "cannot write|cannot be a file|name", to("o" * 300)),
    Case("the output is a pipe", 2, "out.cwb is not a regular file", to_pipe),
    Case("the output's folder cannot be written", 2, "/proc", to("/proc/out.cwb")),
    Case("verify of a model", 4, "model.onnx", lambda p: ["verify", p.model]),
    Case("decompress of a model", 4, "model.onnx", lambda p: ["decompress", p.model, f"{p.out}.onnx"]),
    Case("decompress onto its file", 2, "is the input itself", lambda p: ["decompress", p.cwb, p.cwb, "--force"]),
    Case("decompress over a file", 2, "exists: use -f", lambda p: ["decompress", p.cwb, p.model]),
    Case("verify of a folder", 2, "", lambda p: ["verify", p.folder]),
    Case("verify of a file that is not there", 2, "No such file", lambda p: ["verify", p.folder / "bad.cwb"]),
    Case(
        "verify against a model that is not there", 2, "no such", lambda p: ["verify", p.cwb, "--against", "bad.onnx"]
    ),
    Case("verify against itself", 3, "not an ONNX model", lambda p: ["verify", p.cwb, "--against", p.cwb]),
    Case("inspect of a text", 3, "", lambda p: ["inspect", p.write("bad.txt", "hello\n")]),
    *on_files(),
]
