"""keepalived itself, without an agent: what it is told at a bad moment it does all the same."""

from functools import partial
from pathlib import Path

from tests.support.fabric import fabric, wait_until

from vrata.net import daemon
from vrata.net.links import list_links
from vrata.net.netns import in_namespace
from vrata.vrrp.process import KeepalivedProcess

CONFIG = """\
global_defs {{
  vrrp_version 3
}}
vrrp_instance one {{
  state BACKUP
  interface tenant
  virtual_router_id 1
  priority 100
  advert_int 0.1
  unicast_src_ip 10.10.0.1
  unicast_peer {{
    10.10.0.2
  }}
  virtual_ipaddress {{
    {address}/32 dev tenant
  }}
}}
"""


async def test_a_reload_of_one_that_is_just_starting_is_not_lost(short_path: Path) -> None:
    async with fabric("kdr", "tenant") as net:
        machine = await net.add_machine("m", {"tenant": ["10.10.0.1/24"]})
        for number in range(5):
            directory = short_path / str(number)
            directory.mkdir()
            keepalived = KeepalivedProcess(directory, machine.netns)
            keepalived.write_config(CONFIG.format(address="10.10.0.100"))
            started = keepalived.start()
            keepalived.write_config(CONFIG.format(address="10.10.0.200"))
            await keepalived.reload()
            assert daemon.is_alive(started)
            addresses = partial(in_namespace, machine.netns, list_links)
            await wait_until(
                lambda held=addresses: "10.10.0.200/32" in {a.cidr for link in held() for a in link.addresses},  # type: ignore[misc]
                keepalived.log_path.read_text,
            )
            await keepalived.stop()
