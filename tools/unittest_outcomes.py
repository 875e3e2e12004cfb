"""Runs modules of unittest tests with the interpreter of a foreign environment and writes what came out as JSON.

Usage: PYTHON unittest_outcomes.py FILE PART MODULE [MODULE ...]    writes a list of [test id, pass | fail | skip, text]

PART is I/N: of all tests in their order each Nth from the Ith on, for runs beside each other; 0/1: all.
"""

import json
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path


def tests(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Every test of a suite."""
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from tests(one)
        else:
            yield one


def main(path: str, part: str, modules: list[str]) -> None:
    """Run them one after the other."""
    first, _, step = part.partition("/")
    mine = list(tests(unittest.defaultTestLoader.loadTestsFromNames(modules)))[int(first) :: int(step)]
    outcomes = dict.fromkeys((test.id() for test in mine), ("pass", ""))
    result = unittest.TestResult()
    unittest.TestSuite(mine).run(result)
    outcomes |= {test.id(): ("skip", reason) for test, reason in result.skipped}
    outcomes |= {test.id(): ("fail", text) for test, text in [*result.failures, *result.errors]}
    Path(path).write_text(json.dumps([[name, *how] for name, how in outcomes.items()]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
