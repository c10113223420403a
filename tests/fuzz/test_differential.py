"""The short form of the differential in ``make torture``, and that it would notice what it looks for."""

from __future__ import annotations

import struct
from pathlib import Path

import onnx
import pytest

from cerwu_onnx.container import reader as container_reader
from cerwu_onnx.errors import CorruptFileError

from ..hostile import make
from . import campaign, differential, reader, seeds, structure, wire

COUNT, SHARE = 2400, 12


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return differential.build(tmp_path_factory.mktemp("differential"))
    except campaign.BuildError as error:
        pytest.skip(f"the differential needs a C compiler with sanitizers and trace-pc: {str(error)[:300]}")


def test_three_readers_agree(program: Path) -> None:
    table = differential.run(program, COUNT, SHARE, processes=1)
    print(table.text())
    assert not table.failures
    assert [table.total(column) for column in ("silent", "crash", "hang")] == [0, 0, 0]
    assert table.total("mutants") == COUNT
    for kind in structure.KINDS:
        assert table.counts[kind, "mutants"] == COUNT // len(structure.KINDS)
        assert table.counts[kind, "compared"] > 5
    assert table.total("compared") / 3 < table.total("equal") + table.total("refused") * SHARE
    assert table.total("equal") > table.total("compared") / 5, "most damage is refused by all, some files by none"
    assert 0 < table.work < 20_000, "blocks of the C decoder for each byte and element"


def verdict_of(program: Path, data: bytes) -> differential.Verdict:
    (verdict,), _ = differential.verdicts(program, [structure.Mutant("", data, False)], [True])
    return verdict


@pytest.mark.parametrize("number", range(len(differential.files())))
def test_all_three_read_the_files_that_are_changed(program: Path, number: int) -> None:
    data = differential.sound_files()[number]
    assert differential.compare(verdict_of(program, data))
    assert structure.assembled(structure.parts_of(data))[20:].endswith(data[-8:]), "parts are those of the file"


@pytest.mark.parametrize("case", list(make.cases()), ids=lambda case: case.name)
def test_three_readers_agree_on_hostile_files(program: Path, case: make.Case) -> None:
    if len(case.data) > 60_000:
        pytest.skip("larger than the files that the driver takes")
    differential.compare(verdict_of(program, case.data))


def test_other_values_would_be_noticed(program: Path) -> None:
    verdict = verdict_of(program, seeds.forms())
    verdict.values ^= 1
    with pytest.raises(differential.Disagreement, match="read other values"):
        differential.compare(verdict)


def test_another_answer_would_be_noticed(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = verdict_of(program, seeds.forms())
    sound.error = -11
    with pytest.raises(differential.Disagreement, match="C: PAYLOAD_CRC; the specification reads it"):
        differential.compare(sound)
    damaged = verdict_of(program, seeds.forms()[:-1])
    damaged.error = 0
    with pytest.raises(differential.Disagreement, match="C reads it; the specification: another size"):
        differential.compare(damaged)

    def refuse(data: bytes) -> None:
        raise CorruptFileError("no")

    sound.error = 0
    monkeypatch.setattr(container_reader, "parse", refuse)
    with pytest.raises(differential.Disagreement, match="Python: no; the specification reads it"):
        differential.compare(sound)


def test_another_model_would_be_noticed() -> None:
    from cerwu_onnx.opened import CompressedModel

    data = reader.nested_model()
    file, _ = differential.of_spec(data)
    for change in ("op_type", "output"):
        theirs = differential.whole_of_spec(file)[3]
        ours = CompressedModel(container_reader.parse(data)).to_onnx()
        node = ours.graph.node[2]
        if change == "op_type":
            node.op_type += "x"
        else:
            node.output[0] = "another"
        assert not differential.same_model(theirs, ours)


def test_a_crash_is_one_mutant_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A stand-in for the decoder that dies of the third file."""
    fake = tmp_path / "fake"
    answer = struct.pack("=iIIQ", -1, 0, 0, 1)
    fake.write_text(f"""#!/usr/bin/env python3
import struct, sys
for _ in range(2):
    head = sys.stdin.buffer.read(5)
    if len(head) < 5:
        sys.exit(0)
    sys.stdin.buffer.read(struct.unpack_from("<I", head, 1)[0])
    sys.stdout.buffer.write({answer!r})
if sys.stdin.buffer.read(1):
    sys.stderr.write("AddressSanitizer: boom")
    sys.exit(1)
""")
    fake.chmod(0o755)
    table = differential.batch(fake, 1, 9, 10**9)
    assert table.total("mutants") == 9
    assert table.total("crash") == 3
    assert "mutant 3: AddressSanitizer: boom" in table.failures[0][0]


def test_a_copied_message_is_another_one_even_where_it_no_longer_parses() -> None:
    graph = wire.Message(onnx.GraphProto.DESCRIPTOR, [(1, 2, b"\xff")])  # a node that ends within a number
    number, kind, twin = wire.copied((7, 2, graph))
    assert (number, kind, twin) == (7, 2, graph)
    twin.fields.clear()
    assert graph.fields == [(1, 2, b"\xff")]
