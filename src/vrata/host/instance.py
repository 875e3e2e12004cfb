"""Looks after one instance: observes, plans, applies; watches its processes; knows what to report of it.

Between passes it reacts to three things at once: HAProxy ended (keepalived is told before anything else, so that the
peer takes over while HAProxy is started again), keepalived ended (its addresses are released), keepalived
changed state.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.wire import DesiredInstance, InstanceKind, InstanceReport, VrrpState
from vrata.host import status
from vrata.host.apply import apply_action, forget_peer, remove_instance
from vrata.host.counters import Counters
from vrata.host.forwarding import udp_frontends
from vrata.host.health_checks import HealthChecks
from vrata.host.model import (
    ENDS,
    STARTS,
    ChangeHaproxy,
    CreateNamespace,
    Observed,
    Part,
    Settings,
    StartHaproxy,
    record_of,
)
from vrata.host.observe import observe_chains, observe_instance
from vrata.host.parts import InstanceParts
from vrata.host.peer_ping import PeerPing
from vrata.host.ping_checks import PingChecks, ping_targets
from vrata.host.plan import plan_instance, rules_are_there
from vrata.host.priority import Priority
from vrata.host.render import anchored
from vrata.host.store import HostStore
from vrata.host.transition_log import TransitionLog
from vrata.host.watchdog import Watchdog
from vrata.loop.restarts import Restarts
from vrata.net import daemon
from vrata.net.conntrack import forget_stale_flows
from vrata.net.daemon import DaemonId, ExitWatch
from vrata.net.rules_watch import RulesWatch
from vrata.vrrp.process import NotifyPipe

LOOK_AGAIN_S = 10.0
LOOK_COST_S = 0.1  # at most ten looks a second over all instances of a host
RULES_SETTLE_S = 0.1  # after somebody wrote packet rules, who may not be done
LOOK_SOON_S = 2.0  # after members were removed: connections may have held one
FAILURES_TOLD = 3  # in a row; after a second and a half
RETRY_LEAST_S = 0.5
RETRY_MOST_S = 15.0

log = structlog.get_logger()


class InstanceKeeper:
    """One instance, from its first wish to its removal. `run` ends when nothing is left of it."""

    def __init__(
        self,
        instance_id: str,
        settings: Settings,
        store: HostStore,
        slots: asyncio.Semaphore,
        priority: Priority,
        changed: Callable[[], None],
        instances: Callable[[], int],
    ) -> None:
        self.id = instance_id
        self.desired: DesiredInstance | None = None
        self.broken: str | None = None  # why the cloud cannot say what this instance shall be now
        self._settings = settings
        self._store = store
        self._slots = slots
        self._priority = priority
        self._news = changed
        self._counters = Counters()
        self._instances = instances
        self._wake = asyncio.Event()
        self._parts: InstanceParts | None = None
        self._watches: dict[Part, ExitWatch] = {}
        self._restarts = {part: Restarts() for part in Part}
        self._last_words: dict[Part, str] = {}
        self._pipe: NotifyPipe | None = None
        self._ping_checks: PingChecks | None = None
        self._peer_ping: PeerPing | None = None
        self._watchdog: Watchdog | None = None
        self._rules: RulesWatch | None = None
        self._rules_suspect = False  # somebody wrote there
        self._state = VrrpState.UNKNOWN
        self._transitions = TransitionLog(instance_id, slots, changed)
        self._generation = 0
        self._error: str | None = None
        self._said: str | None = None  # the failure that was logged last
        self._health_checks = HealthChecks(self._wake.set)
        self._down: frozenset[str] = frozenset()  # the verdicts that are in force
        self._failures = 0
        self._changed_live = False

    def want(self, desired: DesiredInstance | None) -> None:
        """Set what this instance shall be; None: nothing."""
        wanted = anchored(desired) if desired else None
        if wanted != self.desired or wanted is None:
            self.desired = wanted
            self._failures = 0
            for restarts in self._restarts.values():
                restarts.forgive()
            self._wake.set()

    @property
    def fresh(self) -> bool:
        """Whether something happened to it since `collect`."""
        return self._counters.fresh

    def _changed(self) -> None:
        self._counters.fresh = True
        self._news()

    def report(self) -> InstanceReport:
        """What the cloud is told."""
        return InstanceReport(
            id=self.id,
            observed_generation=self._generation,
            state=self._state,
            error=self._error or self.broken,
            members=self._counters.members,
            listeners=self._counters.listeners,
            transitions=self._transitions.unreported(),
        )

    def acknowledged(self, report: InstanceReport) -> None:
        """The cloud has taken this report in."""
        self._transitions.acknowledged(report.transitions)

    async def run(self) -> None:
        """Bring and keep the instance where it shall be, until it shall be nowhere and is gone."""
        try:
            while True:
                self._wake.clear()
                async with self._slots:
                    with self._priority.building():
                        delay_s = await self._pass()
                if delay_s is None:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s):
                        await self._wake.wait()
        finally:
            self._let_go()

    async def collect(self) -> None:
        """Read member health and counters; what changed in members is told at once."""
        desired, parts, known = self.desired, self._parts, self._counters.members
        if desired and parts and await self._counters.read(desired, parts, self._state, self._down):
            if self._watchdog:
                self._watchdog.answered()
            if self._counters.members != known:
                self._news()

    async def _pass(self) -> float | None:
        """Observe, plan, apply once; seconds until the next look, None when the instance is gone."""
        try:
            desired = self.desired
            if desired is None:
                await self._remove()
                return None
            directory = self._store.directory(self.id)
            parts = self._adopt(directory, record_of(self._settings, desired).netns)
            observed = await observe_instance(self._store, self.id, parts)
            changed = await self._rules_changed(observed, parts)
            observed = replace(observed, rules_changed=changed, paused=self._paused())
            self._take_over(observed, desired, parts)
            with self._rules.paused() if self._rules else contextlib.nullcontext():
                finished = await self._carry_out(observed, desired, parts)
            self._rules_suspect = self._rules_suspect and not finished
            await self._ping(desired, parts)
            await forget_stale_flows(udp_frontends(desired, self._down), frozenset(), parts.netns)
        except (VrataError, OSError) as error:
            return self._failed(error)
        if not finished:
            return 0.0
        self._health_checks.want(desired, parts.netns)
        if self._peer_ping is None or self._peer_ping.peer not in desired.vrrp.peers:
            self._ping_peer()
        self._failures, self._said = 0, None
        self._set(generation=desired.generation, error=self._complaint())
        return LOOK_SOON_S if self._changed_live else max(LOOK_AGAIN_S, LOOK_COST_S * self._instances())

    async def _rules_changed(self, observed: Observed, parts: InstanceParts) -> bool:
        """Whether packet rules are not as they were loaded: looked at once, then the kernel tells."""
        if observed.namespace_exists and self._rules is None:
            self._rules = RulesWatch(parts.netns, self._on_rules_changed)
            if observed.applied is not None:
                there = rules_are_there(observed.applied, observed.rules, await observe_chains(parts.netns))
                self._rules_suspect = not there
        return self._rules_suspect

    def _on_rules_changed(self) -> None:
        log.warning("packet rules were changed by somebody else; they are loaded again", instance=self.id)
        self._rules_suspect = True
        asyncio.get_running_loop().call_later(RULES_SETTLE_S, self._wake.set)

    async def _carry_out(self, observed: Observed, desired: DesiredInstance, parts: InstanceParts) -> bool:
        """Do the plan's actions; False if it was left, between two of them, for something newer to be built.

        It is left only before HAProxy starts: a floating IP that comes right after its load balancer is then part of
        the first configuration, not of a reload.
        """
        self._changed_live = False
        down = self._health_checks.down()
        for action in plan_instance(observed, desired, self._settings, down):
            self._changed_live = self._changed_live or isinstance(action, ChangeHaproxy)
            if isinstance(action, StartHaproxy) and self.desired is not desired:
                return False
            if part := ENDS.get(type(action)):
                self._forget(part)
            began = monotonic_s()
            await apply_action(action, parts, self._store)
            if isinstance(action, CreateNamespace):
                self._close_sockets()  # they would be in the namespace that is gone
            self._watch(parts)
            if part := STARTS.get(type(action)):  # also one that has ended meanwhile
                self._watch_one(part, daemon.recorded(parts.process(part).record_path))
            step = type(action).__name__
            log.info("step", instance=self.id, step=step, reason=action.reason, took_ms=_ms(monotonic_s() - began))
        if down != self._down:
            self._down = down
            self._changed()
        return True

    async def _ping(self, desired: DesiredInstance, parts: InstanceParts) -> None:
        """Answer HAProxy's questions about members that a monitor pings."""
        if self._ping_checks is None:
            self._ping_checks = PingChecks(parts.netns)
        await self._ping_checks.want(ping_targets(desired))

    def _adopt(self, directory: Path, netns: str) -> InstanceParts:
        if self._parts is None or self._parts.netns != netns:
            self._parts = InstanceParts(directory, netns)
        return self._parts

    def _take_over(self, observed: Observed, desired: DesiredInstance, parts: InstanceParts) -> None:
        """On the first look at an instance that an earlier agent built: its generation, its state, its processes."""
        if observed.applied and not self._generation:
            self._generation = observed.applied.generation
            self._down = frozenset(observed.rules.down if observed.rules else ())
            self._health_checks.adopt(self._down)
        if observed.record and self._state is VrrpState.UNKNOWN:
            held = any(link.holds((observed.applied or desired).legs) for link in observed.links)
            self._state = status.adopted_state(
                keepalived_runs=observed.keepalived_runs, holds_virtual=held, marked_unfit=observed.marked_unfit
            )
            self._changed()
        if observed.record:
            self._watch(parts)

    def _watch(self, parts: InstanceParts) -> None:
        """Watch what runs and listen to keepalived; what is watched already stays as it is."""
        if self._pipe is None and parts.directory.is_dir():
            self._pipe = NotifyPipe(parts.keepalived.fifo_path, self._on_state)
            self._watchdog = Watchdog(
                parts,
                is_active=lambda: self._state is VrrpState.MASTER,
                instances=self._instances,
                haproxy_hangs=self._on_haproxy_hang,
                keepalived_hangs=self._on_keepalived_hang,
            )
        for part in Part:
            self._watch_one(part, parts.process(part).running())

    def _watch_one(self, part: Part, found: DaemonId | None) -> None:
        watch = self._watches.get(part)
        if found and (watch is None or watch.daemon != found):
            self._forget(part)
            self._restarts[part].started(monotonic_s())
            self._watches[part] = ExitWatch(found, partial(self._on_end, part))

    def _forget(self, part: Part) -> None:
        """Its end is no news from now on."""
        if watch := self._watches.pop(part, None):
            watch.close()

    def _on_state(self, state: str) -> None:
        if self._parts:
            self._parts.keepalived.raise_priority()
        self._go(VrrpState(state))
        self._ping_peer()

    def _go(self, state: VrrpState) -> None:
        """Take on a VRRP state and tell of it: from which one, after how long, why."""
        if state is not self._state:
            netns = self._parts.netns if self._parts else None
            interval_ms = self.desired.vrrp.advert_interval_ms if self.desired else 0
            self._transitions.went(self._state, state, netns, interval_ms)
        self._set(state=state)

    def _ping_peer(self) -> None:
        """What is active passes on what its peer still serves, as long as the peer answers."""
        desired = self.desired
        paired = desired is not None and desired.kind is InstanceKind.BALANCER and desired.vrrp.peer_macs
        peers = desired.vrrp.peers if desired and paired else ()
        if self._peer_ping and self._peer_ping.peer not in peers:
            self._peer_ping.close()
            self._peer_ping = None
        if self._parts and peers and self._peer_ping is None:
            with contextlib.suppress(OSError):  # the namespace is not there (any more)
                self._peer_ping = PeerPing(
                    self._parts.netns, peers[0], instances=self._instances, lost=self._on_peer_lost
                )
        if self._peer_ping:
            if self._state is VrrpState.MASTER:
                self._peer_ping.start()
            else:
                self._peer_ping.stop()

    async def _on_peer_lost(self) -> None:
        """The peer's connections are reset at once instead of being kept waiting."""
        if self._parts:
            with self._rules.paused() if self._rules else contextlib.nullcontext():
                await forget_peer(self._parts.netns)

    def _on_haproxy_hang(self, how: str) -> None:
        """Hand over first, then end it: its end is noticed by the watch, and it is started again."""
        if self._parts and self.desired:
            with contextlib.suppress(OSError):
                self._parts.mark_unfit()
            log.warning("haproxy hangs", instance=self.id, how=how)
            self._parts.haproxy.kill()

    def _on_keepalived_hang(self) -> None:
        """Its peer has taken over; what is left to do is to let go, which its end brings about."""
        if self._parts:
            log.warning("keepalived hangs", instance=self.id)
            self._parts.keepalived.kill()

    def _on_end(self, part: Part, status: int | None) -> None:
        """A child process ended by itself: notify what depends on it, then start it again."""
        if self._parts is None or self.desired is None:
            return
        if part is Part.HAPROXY:  # before anything else: the peer takes over meanwhile
            with contextlib.suppress(OSError):
                self._parts.mark_unfit()
        if part is Part.KEEPALIVED:
            self._go(VrrpState.UNKNOWN)
        pause_s = self._restarts[part].ended(monotonic_s())
        said = self._last_words[part] = self._parts.process(part).log_tail()
        how = daemon.describe_status(status)
        log.warning(f"{part} ended", instance=self.id, status=how, said=said, again_in_s=pause_s)
        asyncio.get_running_loop().call_later(pause_s, self._wake.set)

    def _complaint(self) -> str | None:
        """The error reported to the cloud for a child process that keeps ending."""
        failing = [part for part, restarts in self._restarts.items() if restarts.is_failing(monotonic_s())]
        return "; ".join(f"{part} ends again and again: {self._last_words[part]}" for part in failing) or None

    def _paused(self) -> frozenset[Part]:
        now = monotonic_s()
        return frozenset(part for part, restarts in self._restarts.items() if restarts.pause_s(now))

    def _set(self, *, state: VrrpState | None = None, generation: int | None = None, error: str | None = "") -> None:
        before = (self._state, self._generation, self._error)
        self._state = state or self._state
        self._generation = self._generation if generation is None else generation
        self._error = self._error if error == "" else error
        if before != (self._state, self._generation, self._error):
            self._changed()

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        text = str(error)
        if text != self._said:
            self._said = text
            log.error("instance is not as desired", instance=self.id, error=text)
        # What the next try may mend is not told at once: the cloud would call the load balancer ERROR for a moment.
        if not getattr(error, "retriable", True) or self._failures >= FAILURES_TOLD:
            self._set(error=text)
        return min(RETRY_LEAST_S * float(2 ** min(self._failures - 1, 10)), RETRY_MOST_S)

    async def _remove(self) -> None:
        self._let_go()
        await remove_instance(self.id, self._store.record(self.id), self._store.directory(self.id), self._store)
        log.info("removed", instance=self.id)

    def _let_go(self) -> None:
        """Stop watching; the processes go on."""
        self._health_checks.stop()
        self._transitions.close()
        if self._watchdog:
            self._watchdog.stop()
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        self._close_sockets()

    def _close_sockets(self) -> None:
        if self._rules:
            self._rules.close()
            self._rules = None
        if self._peer_ping:
            self._peer_ping.close()
            self._peer_ping = None
        if self._ping_checks:
            self._ping_checks.close()
            self._ping_checks = None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
