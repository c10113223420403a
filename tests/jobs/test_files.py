"""Atomic writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cerwu_onnx.errors import UsageError
from cerwu_onnx.jobs import files


def test_a_file_appears_whole_with_the_users_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask is never changed to be read: other threads create files, too."""
    target = tmp_path / "o.bin"
    mask = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)
        files.write_atomic(target, b"content", overwrite=False)
    finally:
        monkeypatch.undo()
        os.umask(mask)
    assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o777 == 0o640
    target.chmod(0o600)
    files.write_atomic(target, b"other", overwrite=True)
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["o.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_trace(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "o.bin"
    target.write_bytes(b"old")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageError if isinstance(error, OSError) else KeyboardInterrupt):
        files.write_atomic(target, b"new", overwrite=True)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["o.bin"]


def test_targets_are_checked_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_bytes(b"")
    for path, message in [("old", "exists"), (".", "is a folder"), ("no/o", "does not exist")]:
        with pytest.raises(UsageError, match=message):
            files.check_target(tmp_path / path, overwrite=False)
    assert files.check_target(tmp_path / "old", overwrite=True) == tmp_path / "old"
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(UsageError, match="not writable"):
        files.check_target(tmp_path / "new", overwrite=False)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/o.bin")
    for content in (b"one", b"two"):
        files.write_atomic(tmp_path / "link", content, overwrite=True)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there/o.bin").read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert os.listdir(tmp_path / "there") == ["o.bin"]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        files.write_atomic(tmp_path / "pipe", b"", overwrite=True)
