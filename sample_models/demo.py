"""What ``make demo`` shows: compress a sample model, rebuild it with the C decoder, compare size and accuracy."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cerwu_onnx.container import reader

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "sample_models" / "fashion_cnn"
OUT = ROOT / "build" / "demo"


def cli(*arguments: str | Path) -> None:
    """Run ``cerwu-onnx`` as a user would, and show the command."""
    words = [str(word) for word in arguments]
    print("\n$ cerwu-onnx", *(word.replace(f"{ROOT}/", "") for word in words), flush=True)
    subprocess.run([sys.executable, "-m", "cerwu_onnx.cli", *words], check=True)


def c_decoder(compressed: Path) -> int:
    """Rebuild every tensor with the standalone C program; return how many are bit-identical to the Python reader's.

    Raises:
        SystemExit: one differs.
    """
    rebuilt = OUT / "weights.bin"
    program = ROOT / "decoder_c" / "build" / "cwb-rebuild"
    subprocess.run([program, compressed, rebuilt], check=True, stdout=subprocess.DEVNULL)
    container = reader.read(compressed)
    expected = [container.decode_python(record).tobytes() for record in container.tensors]
    if rebuilt.read_bytes() != b"".join(expected):
        raise SystemExit("the C decoder and the Python reader disagree: this is a bug")
    return len(expected)


def score(model: Path) -> float:
    """Accuracy of an ONNX file on the model's held-back test data."""
    spec = importlib.util.spec_from_file_location("evaluate", MODEL / "eval.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return float(module.evaluate(str(model)))


def main() -> None:
    """Run the demo in ``build/demo``."""
    OUT.mkdir(parents=True, exist_ok=True)
    original, compressed, rebuilt = MODEL / "model.onnx", OUT / "fashion_cnn.cwb", OUT / "fashion_cnn.onnx"
    cli("compress", original, compressed, "--calib", MODEL / "calib.npz", "--force")
    cli("verify", compressed)
    cli("decompress", compressed, rebuilt, "--force")
    identical = c_decoder(compressed)
    before, after = original.stat().st_size, compressed.stat().st_size
    table = Table("", "before", "after", "", title="fashion_cnn, 10 classes of clothing")
    table.add_row("file", f"{before:,} bytes", f"{after:,} bytes", f"1/{before / after:.1f}")
    table.add_row("accuracy on 2,000 test images", f"{score(original):.2%}", f"{score(rebuilt):.2%}", "")
    print()
    Console().print(table)
    print(f"C decoder: {identical} tensors bit-identical")


if __name__ == "__main__":
    main()
