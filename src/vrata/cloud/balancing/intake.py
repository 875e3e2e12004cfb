"""Takes in a host's report: a look at what it changes, then a few short transactions, a few owners in each.

Whatever interrupts it leaves the database valid, and the next report of the host continues: what is written already is no
news any more.
"""

from collections.abc import Callable, Mapping

from vrata.base.wire import HostReport
from vrata.cloud.balancing import settle
from vrata.cloud.settings import Settings
from vrata.cloud.store import ForHosts, Store, Tx

OWNERS_A_TRANSACTION = 8
OBJECTS_A_TRANSACTION = 2000  # members and listeners of these owners, but for one that alone has more


async def take_in(
    store: Store | ForHosts,
    host: str,
    report: HostReport,
    settings: Settings,
    superseded: Callable[[], bool] = lambda: False,
) -> bool:
    """Write down everything that the report changes; False if something is left for the next report."""
    news = await store.read(lambda tx: settle.news(tx, host, report))
    if news.strange:
        await store.write(lambda tx: settle.register(tx, host, report))
    groups: list[tuple[list[str], list[str]]] = [(part, []) for part in batches(news.balancers)]
    groups += [([], part) for part in batches(news.routers)]
    for balancers, routers in groups:

        def work(tx: Tx, balancers: list[str] = balancers, routers: list[str] = routers) -> None:
            settle.accept_owners(tx, host, report, balancers, routers, settings)

        await store.write(work)
        if superseded():
            return False
    return await store.write(lambda tx: settle.accept_rest(tx, host, report)) if news.more else True


def batches(owners: Mapping[str, int]) -> list[list[str]]:
    """Owners, in order, in groups for one transaction each; `owners` says how much is told of each."""
    out: list[list[str]] = []
    size = 0
    for owner in sorted(owners):
        size += owners[owner]
        if not out or len(out[-1]) == OWNERS_A_TRANSACTION or size > OBJECTS_A_TRANSACTION:
            out.append([])
            size = owners[owner]
        out[-1].append(owner)
    return out
