"""The one order in which every transaction locks rows, and the check that it does. Pure.

Two transactions that wait for each other lock the same rows in another order. So rows of the tables in ORDER are locked
table by table, and by primary key within a table. A transaction that finds out late that it needs an earlier row does
not wait for it: it gives up what it holds (`OutOfOrder`), and the store runs it again with that row locked first.

Rows of other tables belong to a row of these (a listener to its load balancer, an address to its subnet) and change only
under its lock, or they are rows that no transaction holds together with another one's.
"""

from collections.abc import Iterable

ORDER = (
    "network_quotas", "networks", "subnet_pools", "security_groups", "load_balancers", "routers", "quotas",
    "floating_ips", "ports", "subnets", "hosts",
)  # fmt: skip
RANK = {name: rank for rank, name in enumerate(ORDER)}
Key = tuple[int, str]  # rank of the table, primary key


class OutOfOrder(Exception):
    """These rows come before one that is locked already."""

    def __init__(self, keys: Iterable[Key], held: Key) -> None:
        self.keys = frozenset(keys)
        wanted = ", ".join(f"{ORDER[rank]} {row_id}" for rank, row_id in sorted(self.keys))
        super().__init__(f"{wanted} is locked after {ORDER[held[0]]} {held[1]}")


class Locks:
    """What one transaction holds, and has made itself: nobody else can lock a row that is not committed."""

    def __init__(self) -> None:
        self._held: set[Key] = set()
        self._made: set[Key] = set()
        self._last: Key = (-1, "")

    def wanted(self, table: str, row_ids: Iterable[str]) -> list[str]:
        """Those of the rows that are still to be locked, in order; OutOfOrder if it is too late for one of them."""
        rank = RANK.get(table)
        if rank is None:
            return []
        keys = sorted({(rank, row_id) for row_id in row_ids} - self._held - self._made)
        if keys and keys[0] < self._last:
            raise OutOfOrder(keys, self._last)
        if keys:
            self._last = keys[-1]
            self._held.update(keys)
        return [row_id for _, row_id in keys]

    def made(self, table: str, row_ids: Iterable[str]) -> None:
        """The transaction has inserted these rows."""
        rank = RANK.get(table)
        if rank is not None:
            self._made.update((rank, row_id) for row_id in row_ids)
