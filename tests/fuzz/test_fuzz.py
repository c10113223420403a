"""The short form of ``make torture`` and ``make fuzz``, and that the campaign would notice what it looks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ..hostile import make
from . import campaign, guided, reader, seeds

SHORT = 10_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return seeds.write(tmp_path)


def build(folder: Path, *flags: str) -> Path:
    try:
        return campaign.build(folder, *flags)
    except campaign.BuildError as error:
        pytest.skip(f"the damage campaign needs a C compiler with sanitizers and trace-pc: {str(error)[:300]}")


def test_damage_is_detected_or_harmless(program: Path, files: list[Path]) -> None:
    result = campaign.run(program, files, 0, SHORT, processes=2)
    print(result.table())
    assert not result.reports
    assert [result.total(outcome) for outcome in ("silent", "hang", "crash")] == [0, 0, 0]
    assert sum(result.counts.values()) == SHORT
    assert result.total("harmless", "damaged") < SHORT / 20, "damage that changes nothing"
    provoked = {error for _, outcome, error in result.counts if outcome == "detected"}
    assert provoked >= {name for code, name in campaign.ERRORS.items() if 0 < code <= 13} - {"NAME"}


def test_the_number_determines_the_damage(program: Path, files: list[Path]) -> None:
    whole = campaign.run(program, files, 500, 400)
    parts = campaign.run(program, files, 500, 400, processes=3)
    assert whole.counts == parts.counts


def test_work_grows_with_the_file_alone(program: Path, tmp_path: Path) -> None:
    """Opening and searching 1400 tensors of nearly the same name: the driver bounds each call by the file's size."""
    count = 1400
    names = b"".join(b"\x20" + f"{i:032d}".encode() for i in range(count))
    (tmp_path / "many.cwb").write_bytes(make.seal(*[make.raw((0,), b"")] * count, make.record(make.NAMES, names)))
    done = subprocess.run([program, "0", "0", tmp_path / "many.cwb"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_silent_damage_would_be_noticed(tmp_path: Path, files: list[Path]) -> None:
    """A decoder without CRCs lets much of it through."""
    result = campaign.run(build(tmp_path, "-DCWB_NO_CRC"), files, 0, 2000)
    assert result.total("silent", "damaged") > 40
    assert result.total("crash") == result.total("hang") == 0, "but it stays in bounds"
    assert list(tmp_path.glob("silent-*.cwb"))


def test_a_hang_would_be_noticed(tmp_path: Path, files: list[Path]) -> None:
    """With a bound that hardly any damaged file keeps to."""
    flags = "-DALLOWANCE(blocks)=(number==0?(blocks):(blocks)/100)"
    result = campaign.run(build(tmp_path, flags), files, 1, 200)
    assert result.total("hang") > 20
    assert list(tmp_path.glob("hang-*.cwb"))


def test_a_crash_would_be_noticed(tmp_path: Path, files: list[Path]) -> None:
    """Scratch memory that sometimes ends early; each crash ends its process, and the campaign goes on."""
    program = build(tmp_path, "-DSHORT_SCRATCH(seed)=((seed)%4==3?6:0)")
    result = campaign.run(program, [tmp_path / "nameless.cwb"], 0, 16)
    assert 0 < result.total("crash") < 16
    assert "heap-buffer-overflow" in result.reports[0]
    assert list(tmp_path.glob("crash-*.cwb"))
    assert sum(result.counts.values()) == 16


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fuzzer.c, with a main function instead of a fuzzer's runtime."""
    sources = [campaign.HERE / name for name in ("fuzzer.c", "exercise.c", "mutate.c")]
    program = tmp_path_factory.mktemp("replay") / "replay"
    try:
        return campaign.compile_c(program, "-DREPLAY", *sources, campaign.DECODER / "cwb.c")
    except campaign.BuildError as error:
        pytest.skip(f"no C compiler with sanitizers: {str(error)[:300]}")


def test_the_fuzzers_function_takes_whole_files(replay: Path, tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "empty").write_bytes(b"")
    done = subprocess.run([replay, tmp_path / "empty", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_libfuzzer_finds_its_way_into_the_decoder(tmp_path: Path, files: list[Path]) -> None:
    try:
        program = guided.build(tmp_path)
    except campaign.BuildError as error:
        pytest.skip(f"no fuzzing with coverage: {str(error)[:300]}")
    code, printed = guided.run(program, files, "-runs=2000", "-seed=1")
    assert code == 0, printed[-3000:]
    edges = [int(found) for found in re.findall(r"cov: (\d+)", printed)]
    assert edges[-1] > 300, "the decoder is instrumented"
    assert " inputs, " in guided.summary(printed)


def test_hostile_files_break_no_promise(replay: Path, tmp_path: Path) -> None:
    paths = []
    for case in make.cases():
        paths.append(tmp_path / f"{case.name}.cwb")
        paths[-1].write_bytes(case.data)
    broken = {}
    for path in paths:
        done = subprocess.run([replay, path], capture_output=True, text=True)
        if done.returncode != 0:
            broken[path.stem] = done.stderr
    assert broken == {}


def test_files_from_a_stream(program: Path, tmp_path: Path) -> None:
    """Every bit of one file; a copy that is whole, and another file, which counts as silent unless it is a splice."""
    data, other = reader.files()[1], reader.files()[0]
    (tmp_path / "whole.cwb").write_bytes(data)
    result = campaign.Result()
    campaign.stream(program, tmp_path / "whole.cwb", reader.flips(data), result)
    assert result.total("detected", "flip") == sum(result.counts.values()) == 8 * len(data)
    found = campaign.Result()
    cases = [("flip", data), ("cut", other), ("splice", other)]
    campaign.stream(program, tmp_path / "whole.cwb", cases, found)
    assert {(kind, outcome) for kind, outcome, _ in found.counts} == {
        ("flip", "harmless"),
        ("cut", "silent"),
        ("splice", "harmless"),
    }


def test_a_crash_in_a_stream_would_be_noticed(tmp_path: Path) -> None:
    program = build(tmp_path, "-DSHORT_SCRATCH(seed)=((seed)%4==3?6:0)")
    (tmp_path / "whole.cwb").write_bytes(reader.files()[0])
    result = campaign.Result()
    campaign.stream(program, tmp_path / "whole.cwb", [("flip", reader.files()[0])] * 16, result)
    assert result.failures() == 1
    assert result.reports
