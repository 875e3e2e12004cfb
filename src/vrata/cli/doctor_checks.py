"""Judgements of `vrata doctor`: what was found on a machine or in a cluster, and what to do about it. No I/O."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

OLDEST_KUBERNETES, NEWEST_KUBERNETES = (1, 30), (1, 37)  # what is tested: docs/operate/upgrade.md
OLDEST = {"haproxy": (2, 6), "keepalived": (2, 2), "nft": (1, 0)}
CLOCK_WARNING_S, CLOCK_WRONG_S = 5.0, 60.0
CERTIFICATE_WARNING = timedelta(days=14)
DISK_WRONG, DISK_WARNING = 0.05, 0.15
FILES_WRONG, FILES_WARNING = 4096, 65536
MODULES = ("bridge", "nf_conntrack", "nf_tables", "veth")
SYSCTLS = {"fs.file-max": 1_048_576, "net.netfilter.nf_conntrack_max": 262_144}


class Verdict(StrEnum):
    """Of one check."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """One line of the report; the remedy is empty where nothing is to be done."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Program:
    """A program that a part runs, and what is installed of it; `version` is empty if it did not say one."""

    name: str
    package: str
    path: str = ""
    version: str = ""


@dataclass(frozen=True)
class CertificateFile:
    """A certificate and its key as they lie on the disk; `error` if they cannot be read."""

    option: str
    path: str
    error: str = ""
    ends: datetime | None = None
    is_pair: bool = True
    is_issued: bool = True  # by the authority that clients trust
    names: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Listener:
    """An address that the configuration names, and who has it: empty if nobody, `?` if that cannot be seen."""

    option: str
    address: str
    error: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Right:
    """What a part asks of an API server, and whether the account may."""

    part: str
    verb: str
    resource: str
    allowed: bool


def ok(name: str, found: str) -> Check:
    """A check that found nothing wrong."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """A check that found something to look at."""
    return Check(name, Verdict.WARNING, found, remedy)


def wrong(name: str, found: str, remedy: str) -> Check:
    """A check that found something that does not work."""
    return Check(name, Verdict.WRONG, found, remedy)


def version_of(text: str) -> tuple[int, ...]:
    """The first two numbers of a version; empty if there are none."""
    words = text.lstrip("v").split(".")
    return tuple(int(word) for word in words[:2]) if len(words) > 1 and all(w.isdecimal() for w in words[:2]) else ()


def judge_program(one: Program) -> Check:
    """Installed, and not too old."""
    name = f"program {one.name}"
    if not one.path:
        return wrong(name, "not installed", f"apt-get install {one.package}")
    found, oldest = version_of(one.version), OLDEST.get(one.name)
    if oldest and found and found < oldest:
        wanted = ".".join(map(str, oldest))
        return wrong(
            name, f"{one.path} {one.version} is older than {wanted}", f"install {one.package} of Debian 12 or 13"
        )
    return ok(name, f"{one.path} {one.version}".strip())


def judge_module(name: str, loaded: Collection[str], available: Collection[str] | None) -> Check:
    """Loaded or part of the kernel, or at least there; None: what is there cannot be seen."""
    line = f"kernel module {name}"
    if name in loaded:
        return ok(line, "loaded")
    if available is None:
        return warning(line, "not loaded, and /lib/modules has nothing of this kernel", f"modprobe {name}")
    if name in available:
        return warning(line, "not loaded", f"modprobe {name}, and name it in /etc/modules-load.d/vrata-host.conf")
    return wrong(line, "missing", "boot a kernel that has it: apt-get install linux-image-amd64")


def judge_sysctl(name: str, value: int | None) -> Check:
    """Large enough for many instances."""
    line, least = f"sysctl {name}", SYSCTLS[name]
    if value is None:
        return warning(line, "not there", "modprobe nf_conntrack" if "conntrack" in name else "boot a Debian kernel")
    if value < least:
        return warning(
            line, f"{value}, below {least}", f"write {name} = {least} into /etc/sysctl.d, run sysctl --system"
        )
    return ok(line, str(value))


def judge_clock(url: str, offset_s: float | None) -> Check:
    """This machine's clock minus the cloud's; None: nobody could be asked."""
    if offset_s is None:
        return warning("clock", f"{url} has not said its time", "see the check of the cloud")
    found = f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} {url}"
    remedy = "set one of the two clocks right: apt-get install chrony, or timedatectl set-ntp true"
    if abs(offset_s) > CLOCK_WRONG_S:
        return wrong("clock", found, remedy)
    return warning("clock", found, remedy) if abs(offset_s) > CLOCK_WARNING_S else ok("clock", f"as of {url}")


def judge_certificate(one: CertificateFile, now: datetime, remedy: str) -> Iterator[Check]:
    """Readable, valid for long enough, of its key and of its authority, with the names that clients use."""
    name = f"certificate {one.path}"
    if one.error or one.ends is None:
        yield wrong(name, f"{one.option}: {one.error or 'it has no end'}", remedy)
        return
    problems = []
    if not one.is_pair:
        problems.append("the key is another certificate's")
    if not one.is_issued:
        problems.append("another authority has signed it")
    if missing := sorted(one.wanted - one.names):
        problems.append(f"it lacks the name {', '.join(missing)}")
    if one.ends <= now:
        problems.append(f"it has ended on {one.ends:%Y-%m-%d}")
    if problems:
        yield wrong(name, f"{one.option}: {'; '.join(problems)}", remedy)
    elif one.ends - now < CERTIFICATE_WARNING:
        yield warning(name, f"it ends on {one.ends:%Y-%m-%d}", remedy)
    else:
        yield ok(name, f"valid until {one.ends:%Y-%m-%d}")


def judge_listener(one: Listener) -> Check:
    """Free, or Vrata's own."""
    name = f"port {one.address}"
    if one.owner.startswith("vrata"):
        return ok(name, f"in use by {one.owner}")
    if one.owner:
        who = "another program" if one.owner == "?" else one.owner
        return wrong(name, f"{one.option}: taken by {who}", "stop it, or give another port in the configuration")
    if one.error:
        return wrong(name, f"{one.option}: {one.error}", "give an address of this machine in the configuration")
    return ok(name, "free")


def judge_disk(path: str, free: int, total: int) -> Check:
    """Room for what is written there."""
    share = free / total if total else 0.0
    found = f"{share:.0%} of {total / 2**30:.1f} GiB free"
    remedy = "make room, or move the directory to a larger disk"
    if share < DISK_WRONG:
        return wrong(f"disk of {path}", found, remedy)
    return warning(f"disk of {path}", found, remedy) if share < DISK_WARNING else ok(f"disk of {path}", found)


def judge_descriptors(limit: int) -> Check:
    """The hard limit of open files that this shell passes on; units have their own."""
    remedy = "raise it with `ulimit -Hn 1048576`, or LimitNOFILE= in the unit"
    if limit < FILES_WRONG:
        return wrong("open files", f"at most {limit}", remedy)
    return warning("open files", f"at most {limit}", remedy) if limit < FILES_WARNING else ok("open files", str(limit))


def judge_database(shown: str, found: str | None, newest: str, *, fits: bool) -> Check:
    """Of a version that this program may use."""
    name = f"database {shown}"
    if fits:
        return ok(name, f"at {found}")
    if found is not None and found > newest:
        remedy = "install the version that migrated it, or restore the backup from before"
        return wrong(name, f"at {found}, newer than this version knows ({newest})", remedy)
    if shown.startswith("sqlite"):
        return ok(name, f"at {found or 'nothing'}; the next start migrates it to {newest}")
    return wrong(name, f"at {found or 'nothing'}, not at {newest}", "run `vrata cloud migrate`")


def judge_kubernetes(server: str, version: str) -> Check:
    """One of the versions that are tested."""
    found = version_of(version)
    if not found or OLDEST_KUBERNETES <= found <= NEWEST_KUBERNETES:
        return ok(f"API server {server}", version)
    remedy = "see the table of versions in docs/operate/upgrade.md"
    return warning(f"API server {server}", f"{version} is none of the tested versions 1.30 to 1.37", remedy)


def judge_rights(part: str, rights: Sequence[Right]) -> Iterator[Check]:
    """One line for all that are granted, and one for each that is not."""
    missing = [one for one in rights if not one.allowed]
    for one in missing:
        remedy = "install the chart again, or bind its ClusterRole to the account"
        yield wrong(f"right of {part}", f"may not {one.verb} {one.resource}", remedy)
    if not missing:
        yield ok(f"rights of {part}", f"all {len(rights)}")


def judge_classes(controllers: Mapping[str, str], ours: str) -> Check:
    """An IngressClass of our controller; `controllers` by name of the class."""
    names = sorted(name for name, controller in controllers.items() if controller == ours)
    if names:
        return ok("IngressClass", ", ".join(names))
    remedy = f"install the chart with ingress.enabled, or create an IngressClass with controller {ours}"
    return warning("IngressClass", "none of this controller", remedy)


def judge_front(addresses: Mapping[str, Sequence[str]]) -> Iterator[Check]:
    """The Services in front of the Ingress controllers, by name."""
    for name, found in sorted(addresses.items()):
        if found:
            yield ok(f"Service {name}", ", ".join(found))
        else:
            remedy = (
                f"kubectl -n {name.partition('/')[0]} describe service {name.partition('/')[2]}: its events say why"
            )
            yield wrong(f"Service {name}", "has no address", remedy)


def judge_webhook(name: str, ends: datetime | None, error: str, now: datetime) -> Check:
    """The authority that the API server trusts at an admission webhook."""
    remedy = "delete the pods of the webhook: each start writes its authority there"
    if error or ends is None:
        return wrong(f"webhook {name}", error or "its configuration trusts no authority", remedy)
    if ends <= now:
        return wrong(f"webhook {name}", f"its authority has ended on {ends:%Y-%m-%d}", remedy)
    return ok(f"webhook {name}", f"its authority is valid until {ends:%Y-%m-%d}")
