"""Files are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from vrata.base.errors import VrataError
from vrata.base.files import remove_unfinished, write_atomic


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, "old")
    write_atomic(path, b"new", durable=True)
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_failed_write_keeps_the_old_content_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, "old")
    # What is written beside goes to a device that is always full.
    (tmp_path / f".f.{os.getpid()}.new").symlink_to("/dev/full")
    with pytest.raises(VrataError, match=r"No space left on device.*; free some space there") as caught:
        write_atomic(path, "new")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert path.read_text() == "old"


def test_what_an_interruption_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("f", ".f.17.new", "f.check", ".f.check.17.new", "new", "check.f"):
        (tmp_path / name).touch()
    (tmp_path / "tls.check").mkdir()
    (tmp_path / "tls.check" / "key").touch()
    remove_unfinished(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"f", "new", "check.f"}
