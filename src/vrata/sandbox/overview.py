"""What `vrata status` shows, as rows of text; reads only."""

from pathlib import Path

from vrata.provider.cloud import Cloud, CloudError
from vrata.sandbox.lifecycle import Sandbox

PAGE_KIB = 4
LBAAS = "/v2.0/lbaas"


def machine_rows(sandbox: Sandbox) -> list[tuple[str, ...]]:
    """Machine, role, addresses, namespace."""
    return [
        (
            machine.name,
            machine.role,
            " ".join(link.address for link in machine.links if link.address) or "-",
            machine.netns,
        )
        for machine in sandbox.layout.machines
    ]


def part_rows(sandbox: Sandbox) -> list[tuple[str, ...]]:
    """Part, machine, state, pid, resident memory."""
    rows: list[tuple[str, ...]] = []
    for part in sandbox.all_parts():
        record = sandbox.parts.record(part.name)
        alive = record is not None and record.is_alive()
        pid = str(record.pid) if record and alive else "-"
        memory = f"{resident_mib(record.pid):.0f} MiB" if record and alive else "-"
        rows.append((part.name, part.machine or "this machine", "running" if alive else "dead", pid, memory))
    return rows


def resident_mib(pid: int) -> float:
    """Resident memory of a process, MiB (/proc/PID/statm, second field)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB / 1024
    except OSError:
        return 0.0


async def balancer_rows(sandbox: Sandbox) -> list[tuple[str, ...]]:
    """Load balancer, its states and addresses, and which host is active and which stands by."""
    rows: list[tuple[str, ...]] = []
    try:
        async with Cloud("vrata-admin", sandbox.paths.clouds) as cloud:
            floating = {
                entry["port_id"]: entry["floating_ip_address"]
                for entry in await cloud.find("network", "/v2.0/floatingips", "floatingips")
            }
            amphorae = await cloud.find("load-balancer", "/v2.0/octavia/amphorae", "amphorae")
            for entry in await cloud.find("load-balancer", f"{LBAAS}/loadbalancers", "loadbalancers"):
                roles = {
                    amphora["role"]: str(amphora.get("cached_zone") or "?")
                    for amphora in amphorae
                    if amphora["loadbalancer_id"] == entry["id"]
                }
                rows.append(
                    (
                        entry["name"],
                        entry["provisioning_status"],
                        entry["operating_status"],
                        entry["vip_address"],
                        floating.get(entry["vip_port_id"], "-"),
                        roles.get("MASTER", "-"),
                        roles.get("BACKUP", "-"),
                    )
                )
    except (CloudError, OSError) as error:
        rows.append((f"cloud does not answer: {error}", "", "", "", "", "", ""))
    return rows
