"""What HAProxy shall have, by what is known of the cluster at the moment; what is wrong with that is told on its objects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vrata.ingress.endpoints import EXTERNAL, addresses_of, servers_of, service_of, words_of
from vrata.ingress.model import (
    CONFIG_MAP,
    SERVICE,
    BackendKey,
    Certificate,
    Policy,
    Problem,
    SecretKey,
    Server,
    Settings,
)
from vrata.ingress.names import Names
from vrata.ingress.plan import Desired
from vrata.ingress.proxies import rows_of_sources, sources_of
from vrata.ingress.secrets import Secrets
from vrata.ingress.served import authority_file, file_names, secret_digest, secret_of_file
from vrata.ingress.streams import Port
from vrata.ingress.table import NOTHING, Table
from vrata.ingress.telling import Telling
from vrata.ingress.trust import Trust, peer_of, server_tls
from vrata.ingress.users import Users, is_users
from vrata.kube.objects import EndpointSlice, Service

API_SERVER = "default/kubernetes"  # its Service, and what that leads to


@dataclass
class Work:
    """What a pass looks at: what has changed since the last one, or everything."""

    hosts: set[str] = field(default_factory=set)
    backends: set[BackendKey] = field(default_factory=set)
    secrets: set[SecretKey] = field(default_factory=set)
    named: set[SecretKey] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)
    policies: dict[str, Policy | None] = field(default_factory=dict)
    streams: dict[Port, BackendKey] = field(default_factory=dict)  # always all


@dataclass
class Wanted:
    """Reads the table of Ingresses, Services with their slices, Secrets and names."""

    settings: Settings
    front: str  # key of the Service before the controller
    table: Table
    services: Mapping[str, Service]
    secrets: Secrets
    names: Names
    telling: Telling
    slices: dict[str, dict[str, EndpointSlice]] = field(default_factory=dict)  # by Service
    streams: dict[Port, BackendKey] = field(default_factory=dict)
    datagrams: dict[int, BackendKey] = field(default_factory=dict)
    # Digest of a Secret -> the file that HAProxy refused last, and what is told of it.
    _refused: dict[str, tuple[str, tuple[str, str]]] = field(default_factory=dict)

    def desired(self, work: Work) -> Desired:
        """What HAProxy shall have of what a pass looks at."""
        used = {key for key in work.backends if self.table.uses(key)} | set(work.streams.values())
        return Desired(
            hosts={host: self.table.hosts.get(host, NOTHING).rows for host in work.hosts},
            patterns={host: self.table.hosts.get(host, NOTHING).patterns for host in work.hosts},
            policies=work.policies,
            users={key: self._version(key) for key in work.named if is_users(key)},
            files={key: self._trusted(key).files(key) for key in work.named if not is_users(key)},
            through={host: self.table.hosts.get(host, NOTHING).through for host in work.hosts},
            authorities={host: self._authority(host) for host in work.hosts},
            streams=work.streams,
            backends={key: self.servers(key) for key in work.backends & used},
            unwanted=frozenset(work.backends - used),
            certificates={key: self._certificates(key) for key in work.secrets},
            strays=frozenset(work.strays),
            replicas=self._replicas(),
            proxies=self._proxies(work.streams),
            forbidden=self.forbidden(),
        )

    def forbidden(self) -> frozenset[str]:
        """Addresses that no tenant's URL may lead to: this pod's, and the API server's, of its Service and its own."""
        service = self.services.get(API_SERVER)
        named = {service.spec.cluster_ip, *service.spec.cluster_ips} - {"", "None"} if service else set()
        slices = self.slices.get(API_SERVER, {}).values()
        own = {address for one in slices for endpoint in one.endpoints or () for address in endpoint.addresses}
        return frozenset({*self.settings.forbidden, *named, *own})

    def refuse(self, name: str, why: str) -> list[SecretKey]:
        """HAProxy does not take a file; its hosts go without, and the Secrets that it is of are to be looked at again."""
        self._refused[secret_of_file(name)] = name, ("CertificateRefused", f"HAProxy does not take it: {why}")
        return [key for key in self.table.secrets | self.table.named if secret_digest(key) == secret_of_file(name)]

    def _certificates(self, key: SecretKey) -> tuple[Certificate, ...]:
        """A Secret's certificate, once for the hosts of each authority of clients' certificates."""
        hosts, found = self.table.hosts_of(key), self.secrets.get(key)
        wrong, wholes = found if isinstance(found, tuple) else None, []
        if isinstance(found, str):
            by_authority: dict[str, list[str]] = {}
            for host in hosts:
                authority = self.table.hosts[host].authority
                trusted = self._trusted(authority).authority if authority else ""
                file = authority_file(authority, trusted) if authority and trusted else ""
                by_authority.setdefault(file, []).append(host)
            wholes = [Certificate(found, tuple(names), file) for file, names in sorted(by_authority.items())]
        name, why = self._refused.get(secret_digest(key), ("", None))
        if name in file_names(key, wholes):
            wholes, wrong = [], why
        self.telling.found(f"secret {key}", self.table.told(key, *wrong) if wrong else ())
        return tuple(wholes)

    def _authority(self, host: str) -> str | None:
        """The digest of the Secret that says who signs clients' certificates."""
        served = self.table.hosts.get(host, NOTHING)
        return secret_digest(served.authority) if served.authority and served.certificate else None

    def _trusted(self, key: SecretKey) -> Trust:
        """What a Secret says of trust; nothing if nobody names it any more, or it can not be read."""
        found = self.secrets.get(key)
        name, why = self._refused.get(secret_digest(key), ("", None))
        if why and isinstance(found, Trust) and name in found.files(key):
            found = why
        wrong = self.table.told(key, *found) if isinstance(found, tuple) else ()
        self.telling.found(f"secret {key}", wrong)
        return found if isinstance(found, Trust) and key in self.table.named else Trust()

    def _version(self, key: SecretKey) -> str | None:
        """Of the users of a Secret; None if nobody may enter."""
        found = self.secrets.get(key)
        said = [found] if isinstance(found, tuple) else []
        said += [("InvalidSecret", line) for line in found.wrong] if isinstance(found, Users) else []
        self.telling.found(f"secret {key}", [problem for one in said for problem in self.table.told(key, *one)])
        return found.version if isinstance(found, Users) and key in self.table.named else None

    def _proxies(self, streams: Iterable[Port]) -> Mapping[str, str]:
        """Whose PROXY headers are believed, if some are expected."""
        if not (self.settings.accept_proxy or any(port.proxied for port in streams)):
            return {}
        sources, wrong = sources_of(self.settings.proxies, self.services.get(self.front))
        self.telling.found("PROXY headers", [Problem(f"{SERVICE}{self.front}", *wrong)] if wrong else ())
        return rows_of_sources(sources)

    def _replicas(self) -> frozenset[str]:
        """Addresses of the other pods behind the Service in front, if rates are to be shared with them."""
        own = self.settings.replica
        slices = self.slices.get(self.front, {}).values() if own else ()
        return frozenset(one for one in addresses_of(slices) - {own} if (":" in one) == (":" in own))

    def users_of(self, key: str, version: str) -> Users | None:
        """This version of a Secret's list of users; None if it is another one by now."""
        found = self.secrets.get(SecretKey(key))
        return found if isinstance(found, Users) and found.version == version else None

    def servers(self, key: BackendKey) -> tuple[Server, ...]:
        """The pods behind a backend, if it is known whom to trust among them."""
        service = service_of(key)
        slices = self.slices.get(service, {}).values()
        entry = self.services.get(service)
        named = (
            self.names.get(entry.spec.external_name, entry.metadata.namespace)
            if entry and entry.spec.type == EXTERNAL
            else ()
        )
        peer = peer_of(words_of(key))
        trust = self._trusted(peer.secret) if peer and peer.secret else Trust()
        if peer and ((peer.verify and not trust.authority) or (peer.secret and trust == Trust())):
            self.telling.found(f"backend {key}", ())
            return ()  # its Secret is told of; without it nobody knows whom to trust
        servers, wrong = servers_of(key, entry, slices, named or (), server_tls(peer, trust) if peer else None)
        wrong = wrong if named is not None else None  # it is being asked for
        problems = list(self.table.told(key, *wrong)) if wrong else []
        if wrong:
            settings = self.settings
            entries = [(settings.tcp_services, port.number, backend) for port, backend in self.streams.items()]
            entries += [(settings.udp_services, port, backend) for port, backend in self.datagrams.items()]
            problems += [
                Problem(f"{CONFIG_MAP}{config_map}", wrong[0], f"data.{port}: {wrong[1]}")
                for config_map, port, backend in entries
                if backend == key
            ]
        self.telling.found(f"backend {key}", problems)
        return servers
