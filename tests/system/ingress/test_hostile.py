"""Whatever tenants write into objects, HAProxy gets rows, servers and certificates of theirs and nothing else.

The real controller, fed by hand with what no API server would take, and a real HAProxy: every command has to be accepted,
what is there afterwards is read back, and a HAProxy that starts anew (`haproxy -c`) takes all of it as files.
"""

import asyncio
import base64
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.pki import issue
from tests.support.ports import free_port
from tests.unit.ingress.annotations.test_annotations import GOOD, HOSTILE
from tests.unit.ingress.objects import CLASS

from vrata.haproxy.runtime import RuntimeFailed
from vrata.ingress.annotations.parse import NGINX, OURS
from vrata.ingress.annotations.table import ROWS, Row
from vrata.ingress.controller import Controller
from vrata.ingress.headers import HEADERS, headers_in
from vrata.ingress.model import Scheme, SecretKey, Settings
from vrata.ingress.places import Kind, is_slot
from vrata.ingress.plan import Reload
from vrata.ingress.render import HOSTS, OWNERS, POLICIES, map_path, patterns_map, render_config, routes_of
from vrata.ingress.secrets import found_in
from vrata.ingress.statuses import StatusWriter
from vrata.ingress.trust import Trust
from vrata.kube.client import Kube
from vrata.kube.config import Credentials, KubeConfig
from vrata.kube.objects import ConfigMap, EndpointSlice, Ingress, Secret, Service

Json = dict[str, Any]
SETTINGS = Settings(
    http_port=free_port(), https_port=free_port(), health_port=free_port(), spare_slots=64, tcp_services="default/tcp"
)
CORPUS = (
    *HOSTILE, "", " ", "a b", "a;b", "a|b", "../..", "*", "*.", "~", "to-https", "b-000000", "#", "<<", "\x01", "\x7f",
    "x\n\nshow info", "@1", "p-0", "127.0.0.1", "-1", "0", "65536", "99999999999", "h" * 64 + ".example", "/" * 3000,
    "9999999h", "1000000", "0,0", "," * 2000, "[a-z]{999}" * 50, "a*" * 100, "x%00y", "${x}", "\\1\\2", "$9$0",
)  # fmt: skip
# The longest that the grammar may take: all of it has to get through HAProxy's socket.
LONG = {
    "denylist-source-range": ",".join(f"2001:db8:{one:x}::/64" for one in range(0x1000, 0x1000 + 590)),
    "canary-by-header-value": "#" * 256,
    "canary-by-header-pattern": "#" * 512,
    "canary-by-header": "|" * 128,
    "canary-by-cookie": "|" * 128,
    "slow-start": "576h",
    "rewrite-target": "/" + "%" * 2047,
}
KIND = f"[{''.join(Kind)}]"
PLACE = re.compile(
    rf"to-https|not-here|~([aw]([0-9]+!)?)?|{KIND}-\d{{6}}(\+{KIND}-\d{{6}})?(\|{KIND}-\d{{6}})?(/p-[0-9a-f]+(/.*)?)?"
)
SERVER = re.compile(r"  server s-[0-9a-z_-]+ [0-9a-f.:\[\]]+:[0-9]+( [0-9a-z./()_*-]+)*")
ROUTE = re.compile(r"[a-z0-9.*-]+/[!-\[\]-~]*\x01?")
POLICY = re.compile(r"([a-z-]+=[A-Za-z0-9%/:*,._~-]+ ?)+")


def takes(row: Row, text: str) -> bool:
    """Whether it is a value for the annotation."""
    try:
        row.parse(text)
    except (ValueError, AssertionError):
        return False
    return True


def made(name: str, **changes: object) -> Json:
    """An Ingress with one rule; `changes` are of its fields."""
    field: Json = {
        "host": f"{name}.example",
        "path": "/",
        "pathType": "Prefix",
        "service": "web",
        "port": {"number": 80},
    }
    field |= {"secretName": "certificate", "tlsHost": field["host"], "annotations": {}, "class": "vrata", **changes}
    service = {"service": {"name": field["service"], "port": field["port"]}}
    paths = [{"path": field["path"], "pathType": field["pathType"], "backend": service}]
    spec = {
        "ingressClassName": field["class"],
        "rules": [{"host": field["host"], "http": {"paths": paths}}],
        "tls": [{"secretName": field["secretName"], "hosts": [field["tlsHost"]]}],
        "defaultBackend": service,
    }
    return {"metadata": {"name": name, "namespace": "default", "annotations": field["annotations"]}, "spec": spec}


class Fed:
    """A controller that is given objects one by one, and its HAProxy."""

    def __init__(self, directory: Path) -> None:
        kube = Kube(KubeConfig("http://127.0.0.1:1", None, Credentials()))
        self.directory = directory
        self.controller = Controller(kube, SETTINGS, directory, StatusWriter(kube, "default/front"))
        self.controller.classes._store("vrata", CLASS)

    def give(self, informer: Any, type_: type[Any], *objects: Json) -> None:
        """As the API server would."""
        for one in objects:
            found = msgspec.convert(one, type_)
            informer._store(found.metadata.key, found)

    def ingresses(self, objects: Iterable[Json]) -> None:
        """Written, with the Services and Secrets that they name."""
        self.give(self.controller.ingresses, Ingress, *objects)
        self.controller._settle()

    def take_away(self, informer: Any) -> None:
        """Everything but the neighbour."""
        for key in [key for key in informer.objects if not key.endswith(("/calm", "vrata"))]:
            informer._store(key, None)

    def know(self, key: str, found: Any) -> None:
        """What a Secret or ConfigMap says."""
        self.controller.secrets._found[SecretKey(key)] = found
        if self.controller.table.naming(SecretKey(key)):
            self.controller._secret_changed(SecretKey(key))

    async def work(self) -> None:
        """Passes until nothing is left to do; any refusal is an error."""
        self.controller._due.set()
        for _ in range(3):
            await self.controller._pass()

    async def anew(self) -> None:
        """A reload with all that is to be served as files, which `haproxy -c` reads first."""
        await self.controller._reload(Reload("test", "everything as files"))
        await self.work()

    async def rows(self, name: str) -> dict[str, str]:
        """Of one of HAProxy's maps, as they are."""
        text = await self.controller.proxy.haproxy.runtime.ask(f"show map {map_path(str(self.directory), name)}")
        return {row[1]: row[2] for row in (line.split(" ", 2) for line in text.split("\n")) if len(row) == 3}

    async def check(self) -> None:
        """Nothing but what may be there is there."""
        proxy = self.controller.proxy
        for scheme in Scheme:
            for row, place in (await self.rows(routes_of(scheme))).items():
                assert ROUTE.fullmatch(row), row
                assert PLACE.fullmatch(place), place
            for text in (await self.rows(patterns_map(scheme))).values():
                digest, count, place, pattern = text.split(" ")
                assert re.fullmatch("[0-9a-f]{16} [0-9]+", f"{digest} {count}"), text
                assert PLACE.fullmatch(place), text
                assert pattern.startswith("(?i)^"), text
        policies = await self.rows(POLICIES)
        for name in (one for one in policies if "/" not in one):
            cut = re.match("parts=([0-9]+)", policies[name])
            parts = [policies[f"{name}/{number}"] for number in range(1, int(cut[1]) + 1)] if cut else []
            assert POLICY.fullmatch(policies[name]), name
            assert not parts or POLICY.fullmatch("".join(parts)), name
        owners, running = await self.rows(OWNERS), proxy.running
        assert running
        assert owners == {str(slot): str(key) for slot, key in running.owners.items()}
        backends = set((await proxy.haproxy.runtime.ask("show backend")).split("\n")[1:])
        fixed = set(re.findall(r"^backend (\S+)", render_config(SETTINGS, {}, (), str(self.directory)), re.MULTILINE))
        assert all(map(is_slot, backends - fixed - {HOSTS, "MASTER"})), backends
        calm = {scheme: (await self.rows(routes_of(scheme)))["calm.example/"] for scheme in Scheme}
        assert calm[Scheme.HTTPS].startswith(next(slot for slot in owners if owners[slot] == "default/web:80"))

    def check_files(self) -> None:
        """The configuration has lines of servers, of backends, of listeners, and those that it always has."""
        always = set(render_config(SETTINGS, {}, (), str(self.directory)).split("\n"))
        for line in (self.directory / "haproxy.cfg").read_text().split("\n"):
            known = (
                line in always or SERVER.fullmatch(line) or re.fullmatch(rf"backend {KIND}-\d{{6}} from {KIND}", line)
            )
            pinned = line == "  use-server %[var(txn.server)] if { var(txn.server) -m found }"
            stream = re.fullmatch(r"frontend tcp-\d+(-proxied)? from tcp|  bind :\d+", line)
            assert known or pinned or stream or line.startswith("  use_backend %[str(tcp-"), line


WEB: Json = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
SLICE: Json = {
    "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
    "endpoints": [{"addresses": ["192.0.2.1"]}],
    "ports": [{"name": "http", "port": 8080}],
}


@contextlib.asynccontextmanager
async def fed() -> AsyncIterator[Fed]:
    """With one neighbour, whom nothing may touch."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        it = Fed(Path(folder) / "haproxy")
        it.directory.mkdir()
        identity = issue("calm.example")
        it.give(it.controller.services, Service, WEB)
        it.give(it.controller.slices, EndpointSlice, SLICE)
        it.ingresses([made("calm")])
        it.know("default/certificate", found_in(SecretKey("default/certificate"), secret(identity)))
        try:
            await it.work()
            await it.work()
            yield it
        finally:
            await it.controller.proxy.haproxy.stop()


def secret(identity: Any) -> Secret:
    data = {"tls.crt": identity.cert_pem, "tls.key": identity.key_pem, "ca.crt": identity.cert_pem}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
    return msgspec.convert({"metadata": {"name": "one", "namespace": "default"}, "data": encoded}, Secret)


async def test_no_annotation_gets_through_as_anything_but_a_value() -> None:
    """Every one, with each text of the corpus that its grammar takes, and many that it does not; then without them."""
    async with fed() as it:
        ingresses = []
        for number, row in enumerate(ROWS):
            good = LONG.get(row.name, GOOD.get(row.name, "true"))
            texts = [good, *(text for one in CORPUS for text in (one, good + one, one + good))]
            for index, text in enumerate(texts):
                if takes(row, text) or (number + index) % 8 == 0:
                    prefix = OURS if index % 2 else NGINX
                    ingresses.append(made(f"i{number}-{index}", annotations={f"{prefix}{row.name}": text}))
        it.ingresses(ingresses)
        await it.work()
        await it.check()
        await it.anew()
        await it.check()
        it.check_files()
        it.take_away(it.controller.ingresses)
        await it.work()
        assert set(await it.rows(routes_of(Scheme.HTTP))) == {"calm.example/", "*/"}
        assert await it.rows(POLICIES) == {}


async def test_all_good_annotations_at_once_and_the_longest_ones() -> None:
    """What does not fit through the socket at once goes in parts."""
    async with fed() as it:
        good = {f"{NGINX}{name}": text for name, text in {**GOOD, **LONG}.items() if not name.startswith("canary")}
        canary = {f"{NGINX}{name}": text for name, text in {**GOOD, **LONG}.items() if name.startswith("canary")}
        lists = {f"{NGINX}denylist-source-range": LONG["denylist-source-range"]}
        longest = [f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 50}.h{number}.example" for number in range(130)]
        many = made("many")
        many["spec"]["tls"][0]["hosts"] = longest
        it.ingresses(
            [
                made("good", annotations=good),
                made("lists", annotations=lists),
                made("canary", host="lists.example", annotations=canary | {f"{NGINX}canary": "true"}),
                many,
            ]
        )
        await it.work()
        await it.check()
        await it.anew()
        await it.check()
        it.check_files()
        assert not it.controller.table.hosts["lists.example"].problems
        listed = await it.controller.proxy.haproxy.runtime.ask(
            f"show ssl crt-list {it.controller.proxy.haproxy.tls_dir}/list-00000000.txt"
        )
        assert all(host in listed for host in longest)


FIELDS = ("host", "path", "pathType", "service", "secretName", "tlsHost", "class", "portName", "annotation")


async def test_no_field_gets_through_as_anything_but_a_value() -> None:
    async with fed() as it:
        ingresses = []
        for field in FIELDS:
            for index, text in enumerate(
                (*CORPUS, "a/b", "a:b", "a;tls", "a;peer=x,v,y", "web:80", "certificate;users")
            ):
                change: Json = {field: text}
                if field == "portName":
                    change = {"port": {"name": text}}
                elif field == "annotation":
                    change = {"annotations": {f"{NGINX}{text}": text, text: text}}
                ingresses.append(made(f"{field.lower()}-{index}", **change))
        ingresses += [made(f"number-{number}", port={"number": number}) for number in (-1, 0, 65536, 2**40)]
        for regex in (text for text in CORPUS if len(text) < 600):
            ingresses.append(
                made(f"regex-{len(ingresses)}", path=f"/{regex}", annotations={f"{NGINX}use-regex": "true"})
            )
        it.ingresses(ingresses)
        await it.work()
        await it.check()
        await it.anew()
        await it.check()
        it.check_files()
        it.take_away(it.controller.ingresses)
        await it.work()
        assert set(await it.rows(routes_of(Scheme.HTTP))) == {"calm.example/", "*/"}
        assert set(await it.rows(OWNERS)) == {slot for slot, owner in (await it.rows(OWNERS)).items() if ":80" in owner}


async def test_no_service_slice_secret_or_config_map_gets_through_as_anything_but_a_value() -> None:
    async with fed() as it:
        headers = {f"{NGINX}custom-headers": "headers"}
        users = {f"{NGINX}auth-type": "basic", f"{NGINX}auth-secret": "users"}
        virtual = {f"{NGINX}service-upstream": "true"}
        it.ingresses(
            [
                made("headed", annotations=headers),
                made("locked", annotations=users),
                made("virtual", annotations=virtual),
            ]
        )
        for text in CORPUS:
            port = {"name": text, "port": 80, "appProtocol": text}
            metadata = {"name": "web", "namespace": "default"}
            ends = [{"addresses": [address]} for address in (text, f"192.0.2.2{text}", "192.0.2.3", "127.0.0.1")]
            numbers = [{"name": text, "port": number} for number in (8080, 0)]
            spec = {"ports": [port], "clusterIP": text, "externalName": text}
            it.give(it.controller.services, Service, {"metadata": metadata, "spec": spec})
            it.give(it.controller.slices, EndpointSlice, SLICE | {"endpoints": ends, "ports": numbers})
            data = {text: text, "X-Good": text, f"X-{text}": "good"}
            key = SecretKey(f"default/headers{HEADERS}")
            config_map = {"metadata": {"name": "headers", "namespace": "default"}, "data": data}
            it.know(key, headers_in(key, msgspec.convert(config_map, ConfigMap)))
            encoded = base64.b64encode(f"{text}:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n{text}".encode()).decode()
            listed = {"metadata": {"name": "users", "namespace": "default"}, "data": {"auth": encoded, "tls.crt": text}}
            for use in (";users", ";user-map", ";authority", ";peer", ""):
                known = SecretKey(f"default/users{use}")
                it.know(known, found_in(known, msgspec.convert(listed, Secret)))
            entries = {text: text, "1": text, f"1{text}": "default/web:80", "65536": "default/web:80", "-1": "a/b:1"}
            tcp = {"metadata": {"name": "tcp", "namespace": "default"}, "data": entries}
            it.give(it.controller.config_maps, ConfigMap, tcp)
            await it.work()
        await it.check()
        await it.anew()
        await it.check()
        it.check_files()


async def test_what_haproxy_refuses_keeps_nobody_else_waiting() -> None:
    """Here authorities that are none: neither they nor a server that is to be known by them."""
    async with fed() as it:
        words = {"backend-protocol": "HTTPS", "proxy-ssl-secret": "pods", "proxy-ssl-verify": "on"}
        said = {f"{NGINX}{name}": text for name, text in {**words, "proxy-ssl-name": "pods.example"}.items()}
        it.ingresses([made("a-refused", annotations=said)])
        it.know("default/pods;peer", Trust(authority="junk"))
        other = {"metadata": {"name": "other", "namespace": "default"}, "spec": WEB["spec"]}
        it.give(it.controller.services, Service, other)
        it.ingresses([made("z-late", service="other")])
        with pytest.raises(RuntimeFailed, match="add server"):
            await it.controller._pass()
        assert "z-late.example/" in await it.rows(routes_of(Scheme.HTTPS))
        await it.check()


@given(st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_in_any_field(data: st.DataObject) -> None:
    text = st.one_of(st.sampled_from(CORPUS), st.text(max_size=30), st.text("/.*$()[]a1%{\\;|\n \"'", max_size=30))
    names = st.sampled_from([row.name for row in ROWS])

    async def work() -> None:
        async with fed() as it:
            for round_ in range(3):
                written = []
                for number in range(20):
                    changes = data.draw(st.dictionaries(st.sampled_from(FIELDS[:7]), text, max_size=2))
                    said = data.draw(st.dictionaries(names, text, max_size=3))
                    words = {f"{NGINX}{name}": value for name, value in said.items()}
                    written.append(made(f"any-{number}", **{"annotations": words, **changes}))
                it.ingresses(written)
                await it.work()
                await it.check()
                if round_ == 1:
                    await it.anew()
                    it.check_files()

    asyncio.run(work())
