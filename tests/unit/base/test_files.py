"""Files are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from vrata.base.errors import VrataError
from vrata.base.files import write_atomic


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
