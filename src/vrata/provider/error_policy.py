"""What is done about load balancers in ERROR: wait, fail over, or build anew."""

from vrata.provider.adopt import is_guest
from vrata.provider.call import balancing
from vrata.provider.model import Desired, Observed
from vrata.provider.plan import Plan

POLICIES = ("wait", "failover", "rebuild")
AGAIN_S = 600.0


class ErrorPolicy:
    """Remembers of which load balancers a failover was asked for, and asks again after ten minutes, not at each pass."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._asked_s: dict[str, float] = {}  # by load balancer

    def well(self, balancer: Observed) -> None:
        """A load balancer is not in ERROR; while it is failed over it is PENDING, which is no end of it."""
        if balancer.provisioning_status == "ACTIVE":
            self._asked_s.pop(balancer.id, None)

    def plan(self, desired: Desired, balancer: Observed, *, served: bool, now_s: float) -> Plan:
        """`served`: the Service has shown an address."""
        self._asked_s = {id_: at_s for id_, at_s in self._asked_s.items() if now_s < at_s + AGAIN_S}
        plan = plan_for_error(desired, balancer, self._policy, served=served, tried=balancer.id in self._asked_s)
        if plan.calls:
            self._asked_s[balancer.id] = now_s
        return plan


def not_allowed(balancer_id: str) -> str:
    """What to say where the cloud does not let the provider's user fail a load balancer over."""
    remedy = "give its user the role load-balancer_admin, choose --on-error wait, or ask the cloud's operator for"
    said = f"load balancer {balancer_id} is in ERROR, and the provider may not fail it over"
    return f"{said}; {remedy} `openstack loadbalancer failover {balancer_id}`"


def plan_for_error(desired: Desired, balancer: Observed, policy: str, *, served: bool, tried: bool) -> Plan:
    """What is done about a load balancer in ERROR. `policy`: wait, failover, rebuild.

    One in ERROR often serves on, so it is failed over, which keeps its address, and not deleted; but one that never had an
    address to lose is built anew. `tried`: a failover was asked for a while ago.
    """
    path, said = f"/loadbalancers/{balancer.id}", f"load balancer {balancer.id} is in ERROR"
    own = not is_guest(desired, balancer)
    if own and policy != "wait" and (not served or (policy == "rebuild" and tried)):
        delete = balancing("DELETE", path, "it is in ERROR", cascade="true")
        return Plan((delete,), settled=False, problem=f"{said} and is rebuilt; if it happens again, see the quota")
    if policy == "wait" or tried:
        remedy = f"ask the cloud's operator why, and for `openstack loadbalancer failover {balancer.id}`"
        return Plan((), settled=False, problem=f"{said}; {remedy}")
    call = balancing("PUT", f"{path}/failover", "it is in ERROR")
    return Plan((call,), settled=False, problem=f"{said} and is failed over; its address stays")
