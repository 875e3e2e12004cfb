"""What the agent keeps on disk: the last desired set, and per instance its record and what was applied last.

With these a restarted agent goes on without the cloud, and finds again what it once created. Everything is written
whole or not at all. A file that can not be read counts as absent: the worst that follows is one reload.
"""

import contextlib
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec

from vrata.base.errors import VrataError
from vrata.base.files import remove_unfinished, write_atomic
from vrata.base.wire import DesiredInstance, DesiredSet, Refusal
from vrata.host.model import EMPTY_DIRECTORY, Record, RulesState, directory_name, free_user_id

T = TypeVar("T")
_SECRET = 0o600  # private keys of certificates are in it
_ALIVE_SCRIPT = """\
# Asked by keepalived each second: does the HAProxy master whose id is in haproxy.pid still run (zombies do not)?
read -r pid start <'{directory}/haproxy.pid' || exit 1
read -r stat <"/proc/$pid/stat" || exit 1
case "$stat" in *") Z "* | *") X "*) exit 1 ;; *" $start "*) exit 0 ;; *) exit 1 ;; esac
"""


class HostStore:
    """The agent's state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._instances = state_dir / "instances"
        self._desired = state_dir / "desired.json"
        self._refusal = state_dir / "refusal.json"
        self._users: dict[str, int] | None = None

    def prepare(self) -> None:
        """Create the directory; only root may look inside."""
        try:
            self._instances.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise VrataError(f"{self._instances}: {error.strerror}", remedy="choose another --state-dir") from error

    def clear_up(self) -> None:
        """Remove what an interrupted agent left half written. Only for the agent itself, before it begins."""
        remove_unfinished(self.state_dir)
        for directory in self._instances.iterdir():
            if (directory / "record.json").exists():
                remove_unfinished(directory)
            else:  # nothing was created before its record, or is left after it
                shutil.rmtree(directory)

    def load_desired(self) -> DesiredSet | None:
        """The set the cloud sent last."""
        return _read(self._desired, DesiredSet)

    def save_desired(self, desired: DesiredSet) -> None:
        """Keep a set; it survives a power cut."""
        write_atomic(self._desired, msgspec.json.encode(desired), durable=True, mode=_SECRET)

    def load_refusal(self) -> Refusal | None:
        """Why the sets of the cloud are not taken; None if they are."""
        return _read(self._refusal, Refusal)  # null, when it was forgotten, is none

    def save_refusal(self, refusal: Refusal | None) -> None:
        """Keep a refusal, or forget it; it survives a power cut."""
        write_atomic(self._refusal, msgspec.json.encode(refusal), durable=True)

    def directory(self, instance_id: str) -> Path:
        """Where an instance's files are; not necessarily there yet."""
        if not instance_id or "/" in instance_id or instance_id.startswith("."):
            raise VrataError(f"instance id {instance_id!r} is not valid", remedy="use a UUID", retriable=False)
        return self._instances / directory_name(instance_id)

    def known(self) -> tuple[str, ...]:
        """Ids of the instances that have left something on this host."""
        records = (_read(path / "record.json", Record) for path in self._instances.iterdir())
        return tuple(sorted(record.id for record in records if record is not None))

    def record(self, instance_id: str) -> Record | None:
        """The names an instance has in the kernel."""
        return _read(self.directory(instance_id) / "record.json", Record)

    def user_id(self, instance_id: str) -> int:
        """Whom the instance's HAProxy works as: as recorded, or a user that no other instance of the host has."""
        if self._users is None:
            records = (self.record(known) for known in self.known())
            self._users = {one.id: one.user_id for one in records if one and one.user_id is not None}
        if instance_id not in self._users:
            self._users[instance_id] = free_user_id(instance_id, frozenset(self._users.values()))
        return self._users[instance_id]

    def save_record(self, record: Record) -> None:
        """Remember names, before anything is created under them."""
        directory = self.directory(record.id)
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / EMPTY_DIRECTORY).mkdir(mode=0o100, exist_ok=True)  # for root to enter, for nobody to read or write
        write_atomic(directory / "alive.sh", _ALIVE_SCRIPT.format(directory=directory))
        write_atomic(directory / "record.json", msgspec.json.encode(record), durable=True)

    def applied(self, instance_id: str) -> DesiredInstance | None:
        """What was last carried out to its end."""
        return _read(self.directory(instance_id) / "applied.json", DesiredInstance)

    def save_applied(self, desired: DesiredInstance) -> None:
        """Remember that this has been carried out."""
        write_atomic(self.directory(desired.id) / "applied.json", msgspec.json.encode(desired), mode=_SECRET)

    def rules(self, instance_id: str) -> RulesState | None:
        """Which packet rules were loaded last."""
        return _read(self.directory(instance_id) / "rules.json", RulesState)

    def save_rules(self, instance_id: str, state: RulesState) -> None:
        """Remember which packet rules are loaded, or about to be."""
        write_atomic(self.directory(instance_id) / "rules.json", msgspec.json.encode(state))

    def forget(self, instance_id: str) -> None:
        """Remove an instance's files, the record last, so that an interruption is found again."""
        directory = self.directory(instance_id)
        if self._users:
            self._users.pop(instance_id, None)
        with contextlib.suppress(FileNotFoundError):
            for path in directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != "record.json":
                    path.unlink(missing_ok=True)
            shutil.rmtree(directory)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
