"""What a client or a pod sends costs HAProxy no more than 5 ms of processor time, however it is written.

Every part of `policy.lua` and every rule that reads such text gets the input that is worst for it, as long as HAProxy takes it.
"""

import contextlib
import http.server
import itertools
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Json, Site, endpoint, ingress, service

MOST_MS = 5.0
LONG = 30_000  # bytes: with the rest of the request nearly all that headers may take
TIMES = 20
NAMES = [f"{name}.cost.example" for name in ("client", "careful", "moved", "asked", "cors", "pod", "errors", "canary")]
COOKIE = "INGRESSCOOKIE"


def fill(text: str, length: int = LONG) -> str:
    """A text repeated up to a length."""
    return (text * (length // len(text) + 1))[:length]


COOKIES = {
    "one name without a value": fill("a"),
    "names without values": fill("a;"),
    "separators": fill(";"),
    "blanks": fill(" "),
    "a name and blanks": fill(f"a{'  ' * 100}{COOKIE}="),
    "nearly its name": fill(COOKIE),
    "its first letters": fill("I" * 12 + ";"),
    "its name as values": fill(f"a={COOKIE}="),
    "a long server": f"{COOKIE}=s-{fill('a-')}",
    "a server and more": f"{COOKIE}=s-{fill('a')}~~",
    "servers of Services": f"{COOKIE}={fill('s-a.1_')}",
    "a server and dots": f"{COOKIE}=s-{fill('a.')}",
    "no servers": f"{COOKIE}={fill('_')}",
}
PATHS = {
    "elements": fill("/a"),
    "slashes": fill("/"),
    "dots": fill("/."),
    "ups": fill("/a/.."),
    "parameters": fill("/a;b"),
    "escapes": fill("/%61"),
    "escaped escapes": fill("/%2561"),
    "escaped separators": "/" + fill("%5c"),
    "percent signs": "/" + fill("%"),
    "not ASCII": fill("/%c0%ae"),
    "colons": "/" + fill(":"),
    "sessions": fill("/(S(x))"),
    "open sessions": "/" + fill("(S(/("),
    "programs": fill("/a.PHP"),
    "endings": "/" + fill("a.json"),
    "wide": "/" + fill("%ef%bd%81"),
    "u-escapes": "/" + fill("%uff41"),
    "3900 bytes of all": fill("/(S(x))a.PHP;b%2e%uff41%ef%bd%81.json", 3900),
    "600 bytes of all": fill("/(S(x))a.PHP;b%2e%uff41%ef%bd%81.json", 600),
    "a query": "/?" + fill("&rd"),
    **{
        f"{length} bytes of many readings": fill("/a.;b%2561:c%5c/.//", length)
        for length in (160, 650, 1300, 2600, 3900)
    },
    **{f"{length} bytes of names": fill("/a.", length) for length in (2600, 3900, 7900)},
    **{f"{length} bytes in two ways": fill("/%61", length) for length in (2600, 3900, 4500)},
}
# The costliest that the grammar takes, and what they do not match.
PATTERNED, GUARDED_PATTERNS = "patterned.cost.example", "guarded-patterns.cost.example"
PATTERNS = ["/[a-z]*[a-z]*[0-9]", "/.*[a-z].*[!-.]", "/a{0,999}[a-z]{0,999}[0-9]", "/x.*.*[A-Z]$"]
MATCHED = {
    f"{what}, {length}": "/" + fill(text, length - 1)
    for what, text in {"letters": "a", "elements": "a/", "another": "x", "ends": "ax/"}.items()
    for length in (100, 1024, 1025)
}
# What pods answer, by path.
ANSWERS: dict[str, tuple[str, str]] = {
    "/domain-blanks": ("Set-Cookie", f"a=1; Domain=x{fill(' ')}y"),
    "/domain-dots": ("Set-Cookie", f"a=1; Domain={fill('.')}"),
    "/domains": ("Set-Cookie", fill("a; Domain=inner.example ")),
    "/attributes": ("Set-Cookie", fill("; ")),
    "/names": ("Set-Cookie", fill(";do")),
    "/one-name": ("Set-Cookie", f";d{fill('d')}"),
    "/paths": ("Set-Cookie", fill("; path=/inner/")),
    "/location": ("Location", fill("http://inner.example/")),
}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):  # HAProxy ends connections as it likes
            super().handle_one_request()

    def do_GET(self) -> None:
        self.send_response(401 if self.path.startswith("/denied") else 200)
        name, value = ANSWERS.get(self.path, ("X-Nothing", "0"))
        self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def pods(site: Site) -> Iterator[int]:
    """A Service whose pods send what is asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site.apply(service("costly"), endpoint("costly", "pod", server.server_port))
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def objects() -> list[Json]:
    """A route for everything that reads what others send."""
    sticky = {"affinity": "cookie"}
    origins = ",".join("https://*" + ".a" * (number + 1) for number in range(64))
    guarded = {"whitelist-source-range": "192.0.2.1"}
    signin = "https://login.example/?" + "&".join(f"{number}=$escaped_request_uri" for number in range(60))
    rewritten = {"proxy-cookie-domain": "inner.example x.example", "proxy-cookie-path": "/inner/ /"}
    located = {"proxy-redirect-from": "http://inner.example/", "proxy-redirect-to": "$scheme://$host/"}
    canary = {
        "canary": "true",
        "canary-by-cookie": "always",
        "canary-by-header": "x-side",
        "canary-by-header-value": "a",
    }
    trusting = {"auth-url": "http://192.0.2.79:9/", "auth-response-headers": "X-User,X__X", "satisfy": "any"}
    trusting |= {"whitelist-source-range": "127.0.0.0/8"}
    searched = {"canary-by-header-pattern": "a[a-z/]*[a-z]*[0-9]", "use-regex": "true"}

    def named(number: int, prefix: str = "patterned") -> Json:
        words = {"nginx.ingress.kubernetes.io/use-regex": "true"}
        return {"name": f"{prefix}-{number}", "annotations": words}

    moved = {"permanent-redirect": "https://$host/" + "$escaped_request_uri" * 90}
    client, careful, gone, asked, cors, pod, errors, tried = NAMES

    def route(name: str, words: Mapping[str, str], path: str = "/", target: str = "costly") -> Json:
        return ingress(f"{name}{path.strip('/')}", (name, "Prefix", path, target), annotations=dict(words))

    return [
        route(client, sticky),
        route(careful, {}),
        route(careful, guarded, "/admin"),
        route(gone, moved),
        route(asked, {"auth-url": "http://192.0.2.79:9/denied?$escaped_request_uri", "auth-signin": signin}),
        route(cors, {"enable-cors": "true", "cors-allow-origin": origins}),
        route(pod, rewritten | located),
        route(errors, {"default-backend": "costly", "custom-http-errors": "404,503"} | trusting, target="empty"),
        route(tried, sticky),
        *(
            route(PATTERNED, {"use-regex": "true"}, path) | {"metadata": named(number)}
            for number, path in enumerate(PATTERNS)
        ),
        *(
            route(GUARDED_PATTERNS, {"use-regex": "true"}, path) | {"metadata": named(number, "guarded")}
            for number, path in enumerate(PATTERNS)
        ),
        route(GUARDED_PATTERNS, guarded | {"use-regex": "true"}, "/admin"),
        ingress("patterned-canary", (PATTERNED, "Prefix", PATTERNS[0], "web"), annotations=canary | searched),
        ingress("tried-canary", (tried, "Prefix", "/", "web"), annotations=canary),
    ]


ATTACKS: dict[str, tuple[str, str, dict[str, str]]] = {
    **{f"cookie: {what}": (NAMES[0], "/", {"Cookie": text}) for what, text in COOKIES.items()},
    **{f"canary's cookie: {what}": (NAMES[7], "/", {"Cookie": text}) for what, text in COOKIES.items()},
    **{f"path: {what}": (NAMES[1], text, {}) for what, text in PATHS.items()},
    **{f"redirect: {what}": (NAMES[2], text, {}) for what, text in PATHS.items()},
    **{f"auth: {what}": (NAMES[3], text[: LONG // 6], {}) for what, text in PATHS.items()},
    **{f"errors: {what}": (NAMES[6], text[: LONG // 2], {}) for what, text in PATHS.items()},
    **{f"pattern: {what}": (PATTERNED, text, {"X-Side": text}) for what, text in MATCHED.items()},
    **{
        f"guarded pattern: {what}": (GUARDED_PATTERNS, text[:length], {})
        for length in (100, 1000)
        for what, text in {**PATHS, **MATCHED}.items()
    },
    **{f"pod: {what}": (NAMES[5], what, {}) for what in ANSWERS},
    "origin": (NAMES[4], "/", {"Origin": "https://" + fill("a") + ".a" * 64}),
    "origin with an end": (NAMES[4], "/", {"Origin": "https://" + "a" * 63 + ".a" * 64}),
    "header of a canary": (NAMES[7], "/", {"X-Side": fill("a")}),
    "many headers": (NAMES[6], "/", {f"x_{'_' * 100}{number}": "_" * 20 for number in range(90)}),
    "forwarded by many": (NAMES[0], "/", {f"x-forwarded-{number}": fill("_", 140) for number in range(90)}),
    "credentials": (NAMES[3], "/", {"Authorization": f"Basic {fill('QUFB')}"}),
}


@pytest.fixture
def routes(site: Site, pods: int) -> None:
    site.apply(*objects())
    wait_for(lambda: all(site.request("GET", name, "/")[0] != 404 for name in NAMES), "all of them are served")
    wait_for(lambda: site.request("GET", PATTERNED, "/x0")[0] == 200, "patterns are served")
    wait_for(lambda: site.request("GET", GUARDED_PATTERNS, "/x%2f")[0] == 400, "they are guarded")


# A host of its own whose paths go on to the wildcard's rules: both have a guard, so that both judge the path.
OWN, WILDCARD = "own.wild-cost.example", "*.wild-cost.example"
# What the readings of a path look for; each pair of these is repeated.
TOKENS = [
    "/",
    ".",
    "(",
    ")",
    "%",
    "%25",
    "%2e",
    "%5c",
    "%u0061",
    ";",
    ":",
    "+",
    "~1",
    "a",
    "A",
    "%c0%ae",
    "%ef%bd%81",
    ".php",
]


def cpu_ms(worker: str) -> float:
    """Processor time of HAProxy's threads (proc(5), `schedstat`: nanoseconds)."""
    tasks = Path(f"/proc/{worker}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def answers(site: Site, host: str, path: str, headers: Mapping[str, str], times: int) -> list[int]:
    """Statuses of the same request on connections of its own; 0 for none."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n".encode()
    found = []
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", site.http), 30) as connection:
            connection.sendall(request)
            words = connection.makefile("rb").readline().split()
            found.append(int(words[1]) if len(words) > 1 else 0)
    return found


def test_no_pair_of_what_readings_look_for_costs_more_than_5_ms(site: Site, pods: int) -> None:
    guarded = {"whitelist-source-range": "192.0.2.1"}
    site.apply(
        ingress("own", (OWN, "Prefix", "/admin", "costly"), annotations=guarded),
        ingress("wild", (WILDCARD, "Prefix", "/", "costly")),
        ingress("wild-admin", (WILDCARD, "Prefix", "/admin", "costly"), annotations=guarded),
    )
    hosts = (OWN, "other.wild-cost.example")
    wait_for(lambda: all(site.request("GET", host, "/admin")[0] == 403 for host in hosts), "both have a guard")
    wait_for(lambda: site.request("GET", OWN, "/")[0] == 200, "other paths are the wildcard's")
    costs: dict[str, float] = {}
    for one, other in itertools.product(TOKENS, TOKENS):
        for length in (1900, 7900, LONG):
            text = fill(one + other, length - 1)
            costs[f"{one} {other} {length}"] = _least_ms(site, f"/{text}")
    assert {what: cost for what, cost in costs.items() if cost > MOST_MS} == {}


def _least_ms(site: Site, path: str) -> float:
    """Of two requests, for others may take HAProxy's time while one is measured."""
    worker, found = site.worker(), []
    for _ in range(2):
        before = cpu_ms(worker)
        answers(site, OWN, path, {}, 1)
        found.append(cpu_ms(worker) - before)
    return min(found)


@pytest.mark.usefixtures("routes")
def test_no_request_and_no_answer_costs_more_than_5_ms(site: Site) -> None:
    worker, costs = site.worker(), {}
    for what, (host, path, headers) in ATTACKS.items():
        answers(site, host, path, headers, 1)  # its policy is read once
        before = cpu_ms(worker)
        statuses = answers(site, host, path, headers, TIMES)
        costs[what] = (cpu_ms(worker) - before) / TIMES
        assert 0 not in statuses, what
        # Else its text was not read at all.
        assert set(statuses) != {414} or host in {NAMES[2], PATTERNED, GUARDED_PATTERNS}, what
    assert {what: cost for what, cost in costs.items() if cost > MOST_MS} == {}
    assert site.worker() == worker


def test_patterns_of_other_hosts_cost_nothing(site: Site) -> None:
    name, use = "few.cost.example", {"use-regex": "true"}

    def many(number: int) -> Json:
        paths = ((f"h{number}-{one}.many.example", "Prefix", f"/{number}/[a-z]+/{one}", "web") for one in range(100))
        return ingress(f"many-{number}", *paths, annotations=use)

    site.apply(*(many(number) for number in range(40)))
    site.until("h39-99.many.example", "/39/a/99", "one")
    site.apply(ingress("few", (name, "Prefix", "/x[0-9]+", "web"), annotations=use))
    site.until(name, "/x1", "one")
    answers(site, name, "/x1", {}, 1)
    before = cpu_ms(site.worker())
    # HAProxy remembers what it has found for a text: each is another one.
    assert {status for number in range(TIMES) for status in answers(site, name, f"/x1{number}", {}, 1)} == {200}
    assert (cpu_ms(site.worker()) - before) / TIMES < 3  # ms; each host's patterns were tried: 5
