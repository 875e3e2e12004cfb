"""OpenStack's own Octavia as one process on a socket that is open already: API, worker flows and database as released.

Run by tools/interop-octavia with the Python of build/interop-octavia. Instances, images and instances' interfaces are
its own no-ops; VIPs, networks and subnets are asked of Neutron by its own Neutron driver, so that a VIP has a port to
which a floating IP can go. Tokens are checked by its own middleware against the Keystone named.
"""

import argparse
import signal
import socket
import socketserver
import subprocess
import sys
from pathlib import Path
from wsgiref import simple_server

CONFIG = """\
[DEFAULT]
host = interop
transport_url = fake:///
use_stderr = True
[api_settings]
auth_strategy = keystone
enabled_provider_drivers = amphora:amphora,octavia:alias of amphora
default_provider_driver = amphora
healthcheck_enabled = True
[database]
connection = {database}
max_pool_size = 20
[controller_worker]
workers = 1
client_ca = {directory}/ca.pem
amphora_driver = amphora_noop_driver
compute_driver = compute_noop_driver
network_driver = network_noop_driver
image_driver = image_noop_driver
volume_driver = volume_noop_driver
distributor_driver = distributor_noop_driver
loadbalancer_topology = SINGLE
event_notifications = False
[certificates]
cert_manager = noop_cert_manager
cert_generator = local_cert_generator
ca_certificate = {directory}/ca.pem
ca_private_key = {directory}/ca.key
[oslo_messaging]
topic = octavia_prov
[oslo_messaging_notifications]
driver = noop
[task_flow]
jobboard_enabled = False
[keystone_authtoken]
www_authenticate_uri = {keystone}
token_cache_time = -1
{login}
[service_auth]
{login}
[neutron]
{login}
"""
LOGIN = """\
auth_type = password
auth_url = {keystone}
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
"""


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("directory", "database", "keystone", "password"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    return parser.parse_args()


def configure(options: argparse.Namespace) -> str:
    """Write octavia.conf and the authority that it names; the file's path."""
    directory = Path(options.directory)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=interop",
         "-keyout", directory / "ca.key", "-out", directory / "ca.pem"], check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    login = LOGIN.format(keystone=options.keystone, password=options.password)
    values = {**vars(options), "directory": directory, "login": login}
    path = directory / "octavia.conf"
    path.write_text(CONFIG.format(**values))
    return str(path)


def fill_database() -> None:
    """Tables and the words that rows refer to: Octavia's migrations speak MySQL only, its tests do it like this."""
    from octavia.common import constants as c
    from octavia.db import api, base_models, models

    base_models.BASE.metadata.create_all(api.get_engine())
    words = {
        models.ProvisioningStatus: c.SUPPORTED_PROVISIONING_STATUSES,
        models.OperatingStatus: c.SUPPORTED_OPERATING_STATUSES,
        models.HealthMonitorType: c.SUPPORTED_HEALTH_MONITOR_TYPES,
        models.Algorithm: c.SUPPORTED_LB_ALGORITHMS,
        models.Protocol: c.SUPPORTED_PROTOCOLS,
        models.SessionPersistenceType: c.SUPPORTED_SP_TYPES,
        models.AmphoraRoles: c.SUPPORTED_AMPHORA_ROLES,
        models.LBTopology: c.SUPPORTED_LB_TOPOLOGIES,
        models.VRRPAuthMethod: c.SUPPORTED_VRRP_AUTH,
        models.L7RuleType: c.SUPPORTED_L7RULE_TYPES,
        models.L7RuleCompareType: c.SUPPORTED_L7RULE_COMPARE_TYPES,
        models.L7PolicyAction: c.SUPPORTED_L7POLICY_ACTIONS,
        models.ClientAuthenticationMode: c.SUPPORTED_CLIENT_AUTH_MODES,
    }
    session = api.get_session()
    with session.begin():
        for model, names in words.items():
            session.add_all(model(name=name) for name in names)


def use_neutron_for_vips() -> None:
    """The no-op network driver, but VIPs, networks and subnets are Neutron's."""
    from octavia.common import utils
    from octavia.network import base
    from octavia.network.drivers.neutron.allowed_address_pairs import AllowedAddressPairsDriver
    from octavia.network.drivers.noop_driver.driver import NoopNetworkDriver

    class Driver(NoopNetworkDriver):
        """Asks Neutron for what tenants name; what the no-op instances are said to have, Neutron does not know."""

        def __init__(self, neutron: AllowedAddressPairsDriver) -> None:
            super().__init__()
            self.neutron = neutron
            self.allocate_vip = neutron.allocate_vip
            self.deallocate_vip = neutron.deallocate_vip
            self.get_network_ip_availability = neutron.get_network_ip_availability
            self.get_network = neutron.get_network
            self.get_subnet = neutron.get_subnet

        def get_port(self, port_id, context=None):
            try:
                return self.neutron.get_port(port_id, context=context)
            except base.PortNotFound:
                return super().get_port(port_id, context=context)

    made: list[Driver] = []

    def driver() -> Driver:
        if not made:  # at the first request: Keystone starts after this service
            made.append(Driver(AllowedAddressPairsDriver()))
        return made[0]

    utils.get_network_driver = driver


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """The development server of wsgiref with a thread for each request."""

    daemon_threads = True


class Handler(simple_server.WSGIRequestHandler):
    """Logs nothing: Octavia does."""

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve until SIGTERM."""
    options = arguments()
    config = configure(options)
    from octavia.api import app
    from octavia.controller.queue.v2 import consumer
    from oslo_config import cfg

    application = app.setup_app(argv=["octavia-api", "--config-file", config])
    use_neutron_for_vips()
    fill_database()
    consumer.ConsumerService(0, cfg.CONF).run()
    listening = socket.socket(fileno=options.listen_fd)
    server = Server(listening.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = listening.getsockname()
    server.setup_environ()
    server.set_app(application)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
