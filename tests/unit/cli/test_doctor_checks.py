"""Judgements of `vrata doctor`: each fact that is wrong is named with its remedy."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from vrata.cli import doctor_checks as judge
from vrata.cli.doctor_checks import CertificateFile, Check, Listener, Program, Right, Verdict

NOW = datetime(2026, 12, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
GIB = 2**30


def certificate(**changes: object) -> Iterable[Check]:
    values = {"option": "--tls-cert", "path": "/c.crt", "ends": NOW + YEAR} | changes
    return judge.judge_certificate(CertificateFile(**values), NOW, "renew it")  # type: ignore[arg-type]


CASES: list[tuple[Iterable[Check] | Check, Verdict, str]] = [
    (judge.judge_program(Program("nft", "nftables")), Verdict.WRONG, "apt-get install nftables"),
    (judge.judge_program(Program("haproxy", "haproxy", "/h", "2.4.22")), Verdict.WRONG, "older than 2.6"),
    (judge.judge_program(Program("haproxy", "haproxy", "/h", "3.0.11")), Verdict.OK, "/h 3.0.11"),
    (judge.judge_program(Program("haproxy", "haproxy", "/h", "")), Verdict.OK, "/h"),
    (judge.judge_module("veth", {"veth"}, set()), Verdict.OK, "loaded"),
    (judge.judge_module("veth", set(), {"veth"}), Verdict.WARNING, "modprobe veth"),
    (judge.judge_module("veth", set(), None), Verdict.WARNING, "nothing of this kernel"),
    (judge.judge_module("veth", set(), {"bridge"}), Verdict.WRONG, "missing"),
    (judge.judge_sysctl("fs.file-max", 1000), Verdict.WARNING, "sysctl --system"),
    (judge.judge_sysctl("net.netfilter.nf_conntrack_max", None), Verdict.WARNING, "modprobe nf_conntrack"),
    (judge.judge_sysctl("fs.file-max", 2**40), Verdict.OK, str(2**40)),
    (judge.judge_clock("https://c", -3600.2), Verdict.WRONG, "3600 s behind https://c"),
    (judge.judge_clock("https://c", 20.0), Verdict.WARNING, "20 s ahead of"),
    (judge.judge_clock("https://c", 0.9), Verdict.OK, "as of"),
    (judge.judge_clock("https://c", None), Verdict.WARNING, "not said its time"),
    (certificate(), Verdict.OK, "valid until 2027-12-01"),
    (certificate(ends=NOW + timedelta(days=13)), Verdict.WARNING, "ends on 2026-12-14"),
    (certificate(ends=NOW), Verdict.WRONG, "has ended on 2026-12-01"),
    (certificate(error="/c.crt: No such file"), Verdict.WRONG, "No such file"),
    (certificate(is_pair=False), Verdict.WRONG, "the key is another certificate's"),
    (certificate(is_issued=False), Verdict.WRONG, "another authority"),
    (certificate(wanted=frozenset({"b", "a"}), names=frozenset({"a"})), Verdict.WRONG, "lacks the name b"),
    (judge.judge_listener(Listener("--listen", "h:1")), Verdict.OK, "free"),
    (judge.judge_listener(Listener("--listen", "h:1", "in use", "vrata (process 7)")), Verdict.OK, "process 7"),
    (judge.judge_listener(Listener("--listen", "h:1", "in use", "nginx (process 7)")), Verdict.WRONG, "taken by nginx"),
    (judge.judge_listener(Listener("--listen", "h:1", "in use", "?")), Verdict.WRONG, "another program"),
    (judge.judge_listener(Listener("--listen", "h:1", "no address")), Verdict.WRONG, "--listen: no address"),
    (judge.judge_disk("/d", 1 * GIB, 100 * GIB), Verdict.WRONG, "1% of 100.0 GiB free"),
    (judge.judge_disk("/d", 10 * GIB, 100 * GIB), Verdict.WARNING, "10%"),
    (judge.judge_disk("/d", 50 * GIB, 100 * GIB), Verdict.OK, "50%"),
    (judge.judge_descriptors(1024), Verdict.WRONG, "ulimit"),
    (judge.judge_descriptors(20000), Verdict.WARNING, "LimitNOFILE"),
    (judge.judge_descriptors(2**20), Verdict.OK, "1048576"),
    (judge.judge_database("sqlite:////d", "0013", "0013", fits=True), Verdict.OK, "at 0013"),
    (judge.judge_database("sqlite:////d", "0012", "0013", fits=False), Verdict.OK, "migrates it to 0013"),
    (judge.judge_database("postgresql://h", "0012", "0013", fits=False), Verdict.WRONG, "vrata cloud migrate"),
    (judge.judge_database("postgresql://h", None, "0013", fits=False), Verdict.WRONG, "at nothing"),
    (judge.judge_database("postgresql://h", "0099", "0013", fits=False), Verdict.WRONG, "newer than this version"),
    (judge.judge_database("postgresql://h", "0099", "0013", fits=True), Verdict.OK, "at 0099"),
    (judge.judge_kubernetes("https://k", "v1.37.1"), Verdict.OK, "v1.37.1"),
    (judge.judge_kubernetes("https://k", "v1.29.3"), Verdict.WARNING, "none of the tested versions"),
    (judge.judge_kubernetes("https://k", "odd"), Verdict.OK, "odd"),
    (judge.judge_rights("provider", [Right("provider", "list", "nodes", allowed=True)]), Verdict.OK, "all 1"),
    (judge.judge_rights("provider", [Right("provider", "list", "nodes", allowed=False)]), Verdict.WRONG, "may not list nodes"),
    (judge.judge_classes({"vrata": "x/y"}, "x/y"), Verdict.OK, "vrata"),
    (judge.judge_classes({"nginx": "a/b"}, "x/y"), Verdict.WARNING, "none of this controller"),
    (judge.judge_front({"s/front": ["192.0.2.1"]}), Verdict.OK, "192.0.2.1"),
    (judge.judge_front({"s/front": []}), Verdict.WRONG, "kubectl -n s describe service front"),
    (judge.judge_webhook("w", NOW + YEAR, "", NOW), Verdict.OK, "valid until"),
    (judge.judge_webhook("w", None, "", NOW), Verdict.WRONG, "trusts no authority"),
    (judge.judge_webhook("w", NOW, "", NOW), Verdict.WRONG, "has ended"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[2])
def test_a_fact_is_judged(case: tuple[Iterable[Check] | Check, Verdict, str]) -> None:
    checks, verdict, text = case
    (found,) = [checks] if isinstance(checks, Check) else list(checks)
    assert found.verdict is verdict
    assert text in f"{found.name}: {found.found}; {found.remedy}"
    assert bool(found.remedy) is (verdict is not Verdict.OK)
