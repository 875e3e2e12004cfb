"""What the cloud's threads decode has a decoder that was made at import.

msgspec 0.22.0 crashes the process when two threads meet a type for the first time at once.
"""

import re
from pathlib import Path

import vrata.cloud

CHILD = "reading.py"  # a process with one thread


def test_no_thread_meets_a_type_first() -> None:
    pattern = re.compile(r"msgspec\.(?:json|msgpack)\.decode\([^\n]*\btype=")
    found = [
        f"{path.name}:{number}"
        for path in Path(vrata.cloud.__file__).parent.rglob("*.py")
        if path.name != CHILD
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
