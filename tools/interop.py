"""What the two runs of foreign clients' own test suites share: the list of what is absent, and the table of outcomes.

The list has a reason for every test that cannot pass: `# the reason`, and below it lines of package and test. A test
that fails and is not in it is a fault of ours; one that is in it and passes makes the list untrue.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

Test = tuple[str, str]  # package and name
ORDER = ("skip", "fail", "pass")


def absent(path: Path) -> dict[Test, str]:
    """Tests that cannot pass, each with its reason."""
    found, reason = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            reason = line.removeprefix("# ")
        elif line:
            package, test = line.split()
            found[package, test] = reason
    return found


def either(first: Mapping[Test, str], second: Mapping[Test, str]) -> dict[Test, str]:
    """One outcome of two runs: what only one of two users may do passes if that one does it."""
    return {
        test: max(first.get(test, "skip"), second.get(test, "skip"), key=ORDER.index)
        for test in first.keys() | second.keys()
    }


def report(outcome: Mapping[Test, str], known: Mapping[Test, str]) -> bool:
    """Print the table; whether every failure is known, and every known one a failure."""
    rows: dict[str, list[str]] = defaultdict(list)
    for (package, _), how in outcome.items():
        rows[package].append(how)
    print("| package | passed | absent | skipped |\n|---|---|---|---|")
    for package, how in sorted(rows.items()):
        print(f"| {package} | {how.count('pass')} | {how.count('fail')} | {how.count('skip')} |")
    failed = {test for test, how in outcome.items() if how == "fail"}
    surprises = sorted(failed - known.keys())
    healed = sorted(test for test in known.keys() - failed if test[0] in rows)
    for package, test in surprises:
        print(f"failed, and is not in the list of what is absent: {package} {test}")
    for package, test in healed:
        print(f"did not fail, and is in the list of what is absent: {package} {test}")
    return bool(outcome) and not surprises and not healed
