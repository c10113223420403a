"""The short form of ``make torture``: the Python reader on damaged and forged files."""

from __future__ import annotations

import pytest

from cerwu_onnx.errors import CorruptFileError

from ..fuzz import reader, seeds


def test_damage_is_detected_or_harmless() -> None:
    table = reader.run(step=61, count=60, processes=2, noise=2000)
    print(table.text())
    assert not table.failed(), table.text()
    assert sum(table.counts[kind, "harmless"] for kind in ("flip", "cut")) == 0
    for kind in ("directory", "payload", "inside", "splice", "noise"):
        assert table.counts[kind, "detected"] > 0


class TestTheCampaignNotices:
    """What the campaign looks for, done on purpose."""

    def test_a_silent_fault(self) -> None:
        assert reader.outcome(seeds.nameless(), "another digest") == ("silent", "")

    def test_another_exception(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "digest", lambda data, plain: 1 // 0)
        result, why = reader.outcome(b"", None)
        assert result == "crash"
        assert "ZeroDivisionError" in why

    def test_a_named_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert reader.outcome(b"", None) == ("detected", CorruptFileError.__name__)

    def test_a_hang(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "MAX_LINES", 50)
        assert reader.outcome(seeds.tensors(), None) == ("hang", "")

    def test_too_much_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "MAX_MEMORY", 1000)
        with reader.tracing():
            assert reader.outcome(seeds.tensors(), None)[0] == "memory"
