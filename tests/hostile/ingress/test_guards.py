"""No form of a path passes a guard: for each server, what it makes of a path is written here, and its forms are generated.

A guarded path of a host is asked for in every way that some server reads as that path. Each answer is 400, 403 or 404, never
the pod's. Servers: nginx and Go (RFC 3986), Tomcat and Jetty (path parameters), Spring, IIS and ASP.NET, Windows, Node,
PHP and CGI, Rails, and all that decode twice. Limits are guards, too.
"""

import itertools
import socket
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.kubernetes import wait_for
from tests.system.ingress.site import Site, ingress

NOBODY = {"whitelist-source-range": "192.0.2.1"}
REFUSED = {400, 403, 404}
UPS = ["..", "%2e%2e", ".%2e", "%2E."]
SLASHES = ["/", "//", "/./", "%2f", "%2F"]


def rfc_3986() -> Iterator[str]:
    """nginx, Go, Apache: decode, merge slashes, remove dots."""
    for up, slash in itertools.product(UPS, SLASHES):
        yield f"/public{slash}{up}{slash}admin"
        yield f"/public{slash}x{slash}{up}{slash}{up}{slash}admin/x"
    yield from (
        "//admin",
        "/./admin",
        "/%61dmin",
        "/adm%69n/",
        "/%2fadmin",
        "/.//admin",
        "/public//../admin",
        "/public/%2e%2e//admin",
    )
    yield from ("/a//b/../../../admin", "/../admin", "/public/../../admin", "/%2e/admin", "/public/x/..//../admin")


def tomcat() -> Iterator[str]:
    """Tomcat, Jetty: parameters of each element go, before or after decoding."""
    for up in UPS:
        yield from (
            f"/public/{up};/admin",
            f"/public/{up};a=b/admin",
            f"/public;x/{up};y/admin;z",
            f"/public/{up}%3b/admin",
        )
    yield from (
        "/admin;",
        "/admin;a=b/x",
        "/;/admin",
        "/;a/admin",
        "/a;b/../admin",
        "/%3b/admin",
        "/admin%3bx",
        "/a;x%2f../admin",
    )
    yield from ("/public/.;/../admin", "/public/;/../admin", "/public/..;%2fadmin", "/public;/..;/admin")


def iis() -> Iterator[str]:
    """IIS, ASP.NET, PHP on Windows: no case, backslashes, %u, streams, dots and blanks at ends, UTF-8 in too many bytes."""
    yield from ("/ADMIN", "/Admin/x", "/public/..%5cadmin", "/public%5c..%5cadmin", "/%5cadmin", "/public/..%5CADMIN")
    yield from (
        "/%u0061dmin",
        "/public/%u002e%u002e/admin",
        "/public%u2215..%u2215admin",
        "/%uff41dmin",
        "/public%u2216..%u2216admin",
    )
    yield from (
        "/admin.",
        "/admin./x",
        "/admin%20",
        "/admin%20/x",
        "/admin.%20.",
        "/admin::$DATA",
        "/admin:x/y",
        "/admin::$INDEX_ALLOCATION/x",
    )
    for dot in ("%c0%2e", "%c0%ee", "%c0%6e", "%e0%40%ae", "%f0%80%80%ae", "%f8%80%80%80%ae", "%fc%80%80%80%80%ae"):
        yield from (
            f"/public/{dot}{dot}/admin",
            f"/public/x/../{dot}./admin",
            f"/public/%e0{dot}/../{dot}{dot}/admin",
        )
    yield from (
        "/public%f8%80%80%80%af..%f8%80%80%80%afadmin",
        "/public/..%fc%80%80%80%80%afadmin",
        "/%e0%81%a1dmin",
        "/%e0%e0%81%a1/../admin",
    )
    yield from (
        "/public/..%20/admin",
        "/public/.%20./..%20/admin",
        "/ADMINI~1",
        "/admini~1.dir/x",
        "/public/../AD12B7~1",
    )
    yield from (
        "/public/%c0%ae%c0%ae/admin",
        "/public/..%c0%afadmin",
        "/public%c1%9c..%c1%9cadmin",
        "/public/%e0%80%ae./admin",
    )
    yield from ("/public/%ef%bc%8e%ef%bc%8e/admin", "/public/..%ef%bc%8fadmin", "/%c1%a1dmin", "/%ef%bd%81dmin")


def asp_net() -> Iterator[str]:
    """ASP.NET: segments of sessions without cookies go, wherever they are; programs take what follows their name."""
    for kept in ("(S(x))", "(A(x))", "(F(x))", "(s(x))", "(X(1)F(x))", "(A(x)S(y)F(z))", "(S())"):
        yield from (
            f"/{kept}/admin",
            f"/{kept}admin",
            f"/public/../{kept}/admin",
            f"/adm/{kept}in",
            f"/x/../{kept}/ADMIN",
        )
        yield kept.join(("/public/../", "/admin/x")).replace("(", "%28")
    yield from ("/x.aspx/admin", "/x.ASHX/Admin", "/X.Asmx/admin/x", "/public/x.axd/admin")


def best_fit() -> Iterator[str]:
    """Windows and whoever normalises text: characters that become ASCII, also as `%u` escapes."""
    for slash in "\u00a5\u20a9\uffe5\u2215\u2044\u29f8\uff0f\u2216\u29f5\ufe68\uff3c":
        yield from (
            f"/public{quote(slash)}..{quote(slash)}admin",
            f"/public%u{ord(slash):04x}..%u{ord(slash):04X}admin",
        )
    for dot in "\u2024\ufe52\uff0e\u3002\uff61":
        yield from (f"/public/{quote(dot)}{quote(dot)}/admin", f"/public/%u{ord(dot):04x}./admin")
    yield f"/public/{quote(chr(0x2025))}/admin"
    for blank in "\u0085\u00a0\u1680\u2003\u2028\u3000":
        yield from (f"/admin{quote(blank)}", f"/public/..{quote(blank)}/admin")
    for char in alike("adminAN"):
        at = {"a": 0, "d": 1, "m": 2, "i": 3, "n": 4}[read_as(char)]
        yield f"/{'admin'[:at]}{quote(char)}{'admin'[at + 1 :]}"
    yield from (f"/ad{quote(ignored)}min" for ignored in "\xad\u200b\u2060\ufeff\u0301\ufe0f")


def read_as(char: str) -> str:
    """A character without accents, case and width."""
    return "".join(one for one in unicodedata.normalize("NFKD", char) if not unicodedata.combining(one)).casefold()


def alike(letters: str) -> list[str]:
    """Characters that are read as one of these letters."""
    wanted = set(letters.lower())
    return [char for char in map(chr, range(0x80, 0x1F000)) if read_as(char) in wanted]


def rails() -> Iterator[str]:
    """Rails and Spring: what a path ends in is a format, or says nothing."""
    for end in (".json", ".xml", ".anything", ".JSON", ".json/", "/.json", ".tar.gz", "%2ejson", "%2Ejson", "/"):
        yield from (f"/admin{end}", f"/Admin{end}", f"/public/../admin{end}", f"//admin{end}")


def node() -> Iterator[str]:
    """Node: Express knows no case, URL reads backslashes as slashes, drops tabs, takes what follows // for a host."""
    yield from (
        "/aDmIn",
        "//host/admin",
        "//host:80/admin",
        "/%5c%5chost/admin",
        "/adm%09in",
        "/admin%23x",
        "/%09/admin",
        "/ad%0amin",
    )
    yield from ("///admin", "//x//admin", "/public/.%5c../admin", "/public/.%09./admin")


def php() -> Iterator[str]:
    """PHP and C: front controllers take what follows their name, strings end at NUL."""
    yield from (
        "/index.php/admin",
        "/public/index.php/admin",
        "/app_dev.php/admin/x",
        "/admin%00",
        "/admin%00.jpg",
        "/admin+",
        "/admin%3f",
        "/admin%3fx=/public",
    )
    for program in (
        "x.php5",
        "x.php7",
        "x.phtml",
        "x.phar",
        "x.PHP",
        "X.Php",
        "x.cgi",
        "x.pl",
        "x.py",
        "x.jsp",
        "x.wsgi",
        "x.psgi",
        "x.cfml",
        "x.cfc",
        "x.pht",
        "x.phps",
        "x.lua",
        "x.tcl",
        "x.sh",
    ):
        yield from (f"/{program}/admin", f"/public/{program}/Admin/x", f"/y.php/{program}/admin")


def twice() -> Iterator[str]:
    """Proxies and programs that decode what was decoded already."""
    for form in (*rfc_3986(), *tomcat(), *iis(), *asp_net(), *node(), *php(), *rails()):
        if "%" in form:
            yield form.replace("%", "%25")
            yield form.replace("%", "%25%32%35")
    yield from (
        "/%2561dmin",
        "/%252561dmin",
        "/public/%252e%252e/admin",
        "/public/%252e%252e%252fadmin",
        "/%252541dmin",
    )


SERVERS = {
    one.__name__: sorted(set(one())) for one in (rfc_3986, tomcat, iis, asp_net, best_fit, node, php, rails, twice)
}
HARMLESS = [
    *("/public", "/public/", "/public/x.html", "/public/a%20b", "/public/a%2Fb", "/public/a;b=c"),
    *("/public/%C3%A4", "/public/a:b"),
    *("/public/x/../y", "/public//x", "/public/.", "/public/X", "/public/%61?next=//admin", "/public/a+b@c,d", "/"),
    *("/public/100%25",),
    *("/publicly", "/public/v1.2/x", "/public/~me/", "/public/(a)'!*$&=", "/favicon.ico", "/public/index.php"),
    *("/public/index.php?x=/admin", "/public/f(x)/(S)/((x))", "/public/jquery-3.7.1.min.js", "/public/%E4%BD%A0%E5%A5%BD"),
    *("/public/a.b.c.d.tar.gz", "/.well-known/x.json", "/public/Some%20Name%20v1.2.PDF"),
]  # fmt: skip


@pytest.fixture(params=["paths", "patterns", "wildcard", "rest", "goes-on", "upper", "exact", "ends"])
def host(site: Site, request: pytest.FixtureRequest) -> str:
    """/admin is for nobody, all else is open; written in different ways."""
    name = f"x.{request.param}.guards.example"
    written = f"*.{request.param}.guards.example" if request.param == "wildcard" else name
    words = {"use-regex": "true"} if request.param in {"patterns", "ends"} else {}
    path = {"upper": "/%41dMin", "ends": "/admin$"}.get(request.param, "/admin")
    kind = "Exact" if request.param == "exact" else "Prefix"
    open_ = [] if request.param in {"rest", "goes-on"} else [(written, "Prefix", "/", "web")]
    site.apply(
        ingress(
            "open",
            (written, "Prefix", "/public", "web"),
            *open_,
            annotations=words,
            default="web" if request.param == "rest" else "",
        ),
        ingress("guarded", (written, kind, path, "web"), annotations=NOBODY | words),
    )
    if request.param == "goes-on":
        site.apply(ingress("every", ("", "Prefix", "/", "web")))
    site.until(name, path.rstrip("$"), "403")
    site.until(name, "/public", "one")
    site.until(name, "/nothing", "one")
    wait_for(lambda: statuses(site, name, ["//admin"]) == [400], "its routes are careful")
    return name


def statuses(site: Site, host: str, targets: list[str]) -> list[int]:
    """Of a GET each, sent as they are; 0 for none."""
    found = []
    for target in targets:
        with socket.create_connection(("127.0.0.1", site.http), 5) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            words = connection.makefile("rb").readline().split()
            found.append(int(words[1]) if len(words) > 1 else 0)
    return found


def test_no_form_of_any_server_passes_a_guard_and_plain_paths_do(site: Site, host: str) -> None:
    whole = any(word in host for word in ("exact", "ends"))  # what is below `/admin` is open
    for server, every in SERVERS.items():
        forms = [form for form in every if not (whole and form.endswith(("/x", "/y")))]
        passed = [
            form for form, status in zip(forms, statuses(site, host, forms), strict=True) if status not in REFUSED
        ]
        assert not passed, f"{server}: {passed}"
    refused = [path for path, status in zip(HARMLESS, statuses(site, host, HARMLESS), strict=True) if status != 200]
    assert not refused


SAME = {
    "/": ["%2f", "%252f", "%5c", "//", "/./", "/x/../", "/;a/", "%u2215", "%c0%af", "/.%2f", "%c2%a5"],
    ".": ["%2e", "%252e", "%u002e", "%c0%ae", "%c0%2e", "%fc%80%80%80%80%ae"],
    "a": ["%61", "A", "%2541", "%u0061", "%09a", "%ef%bd%81"],
    "n": ["%6e", "N", "n;x", "n.", "n%20", "n:x", "%256E", "n+", "n%c2%85"],
}


@st.composite
def mixtures(draw: st.DrawFn) -> str:
    """The guarded path, each character in any of its ways, behind some steps into an open one and back."""
    text = draw(st.sampled_from(["/admin", "/public/../admin", "/public/x/../../admin", "/admin/x"]))
    made = "".join(draw(st.sampled_from([char, *SAME.get(char, [])])) for char in text[1:])
    return f"/{made}"


def test_no_mixture_of_forms_passes_a_guard(site: Site, mixed: str) -> None:
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(mixtures(), min_size=4, max_size=4))
    def check(targets: list[str]) -> None:
        found = statuses(site, mixed, targets)
        assert [target for target, status in zip(targets, found, strict=True) if status not in REFUSED] == []

    check()


def upper(draw: st.DrawFn, text: str) -> str:
    return "".join(draw(st.sampled_from([char, char.upper()])) for char in text)


def escaped(draw: st.DrawFn, text: str) -> str:
    return "/" + "".join(draw(st.sampled_from([char, f"%{ord(char):02x}"])) for char in text[1:])


def wide(draw: st.DrawFn, text: str) -> str:
    wanted = [char for char in text[1:] if char.isalpha()]
    char = draw(st.sampled_from(wanted or ["a"]))
    return text.replace(char, quote(chr(ord(char) + 0xFEE0)))


def up(draw: st.DrawFn, text: str) -> str:
    return f"/public/{draw(st.sampled_from(['..', '%2e.', 'x/../..', '..;', '.%00/..']))}{text}"


STEPS: dict[str, Callable[[st.DrawFn, str], str]] = {
    "upper": upper,
    "escaped": escaped,
    "wide": wide,
    "up": up,
    "session": lambda draw, text: f"/({draw(st.sampled_from('SAFX'))}(x)){text}",
    "program": lambda draw, text: f"/{draw(st.sampled_from(['x.php', 'X.PHP7', 'y.aspx', 'z.cgi']))}{text}",
    "format": lambda draw, text: text + draw(st.sampled_from([".json", ".xml", ".PDF"])),
    "slash": lambda _, text: f"{text}/",
    "parameter": lambda _, text: f"{text};x",
    "stream": lambda _, text: f"{text}::$DATA",
    "ends": lambda draw, text: text + draw(st.sampled_from([".", "%20", "%00", "%3f"])),
    "slashes": lambda _, text: f"/{text}",
    "backslash": lambda _, text: "/" + text[1:].replace("/", "\\").replace("\\", "%5c"),
}


@st.composite
def composed(draw: st.DrawFn) -> str:
    """The guarded path, after several things that some server takes back."""
    text = "/admin"
    for name in draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4)):
        text = STEPS[name](draw, text)
    return text


def test_no_composition_of_forms_passes_a_guard(site: Site, mixed: str) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(composed(), min_size=4, max_size=4))
    def check(targets: list[str]) -> None:
        found = statuses(site, mixed, targets)
        assert [target for target, status in zip(targets, found, strict=True) if status not in REFUSED] == []

    check()


@pytest.fixture
def mixed(site: Site) -> str:
    name = "mixed.guards.example"
    site.apply(
        ingress("open", (name, "Prefix", "/", "web")),
        ingress("guarded", (name, "Prefix", "/admin", "web"), annotations=NOBODY),
    )
    wait_for(lambda: statuses(site, name, ["//admin", "/admin", "/"]) == [400, 403, 200], "its routes are careful")
    return name


@pytest.mark.parametrize(
    "words", [{"limit-rpm": "60000"}, {"limit-connections": "1000"}, {"proxy-body-size": "1k"}], ids=str
)
def test_no_form_of_any_server_passes_a_limit(site: Site, words: dict[str, str]) -> None:
    name = "limits.guards.example"
    site.apply(
        ingress("open", (name, "Prefix", "/", "web")),
        ingress("limited", (name, "Prefix", "/login", "web"), annotations=words),
    )
    wait_for(lambda: statuses(site, name, ["//login", "/login", "/"]) == [400, 200, 200], "its routes are careful")
    # Of all common ones there is one a server here; the others are above.
    forms = [
        "/%6cogin",
        "/LOGIN",
        "//login",
        "/login;x",
        "/public/../login",
        "/login.json",
        "/(S(x))/login",
        "/login%20",
    ]
    assert dict(zip(forms, statuses(site, name, forms), strict=True)) == dict.fromkeys(forms, 400)


@pytest.mark.parametrize("path", ["/%C3%A4dmin", "/a%20b"])
def test_a_guard_is_found_whose_path_is_written_with_escapes(site: Site, path: str) -> None:
    name = "escapes.guards.example"
    site.apply(
        ingress("open", (name, "Prefix", "/", "web")),
        ingress("guarded", (name, "Prefix", path, "web"), annotations=NOBODY),
    )
    site.until(name, path, "403")
    wait_for(lambda: statuses(site, name, [f"/{path}"]) == [400], "its routes are careful")
    forms = [path.lower(), path.upper(), path.replace("a", "%61"), path.replace("%", "%25"), path.replace("d", "%64")]
    assert [
        form for form, status in zip(forms, statuses(site, name, forms), strict=True) if status not in REFUSED
    ] == []


CLAIMED = [
    *("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X_Original_URL", "X-Forwarded-Uri", "X-Forwarded-Prefix"),
    *(
        "X-MS-Original-URL",
        "X-Waws-Unencoded-Url",
        "X-Host",
        "X-HTTP-Host-Override",
        "X-Client-Cert",
        "X-ARR-ClientCert",
        "Client-Cert",
        "Client-Cert-Chain",
        "WL-Proxy-Client-Cert",
        "WL-Proxy-SSL",
        "X-Amzn-Mtls-Clientcert",
        "X-SSL-Cert",
        "SSL-Cert",
        "X-Client-DN",
        "X-Client-Verify",
        "X-Client-S-DN",
        "X-TLS-Client-Certificate",
        "X-Client-Certificate",
        "Front-End-Https",
        "X-True-IP",
    ),
    *(
        "X-Script-Name",
        "X-SSL-Client-Verify",
        "X-Envoy-Original-Path",
        "X-HTTP-Path",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Client-IP",
    ),
    *("Forwarded", "X-Forwarded", "Forwarded-For", "X.Forwarded.For", "X-Forwarder-For", "X-Forward-For", "X-Real.IP"),
    *(
        "X-True-Client-IP",
        "Incap-Client-IP",
        "X-Sucuri-ClientIP",
        "DO-Connecting-IP",
        "X-Arr-ClientIP",
        "X-Remote-Addr",
    ),
    *(
        "X-Originating-IP",
        "X-Source-IP",
        "X-Akamai-Client-IP",
        "X-Azure-SocketIP",
        "CF-Pseudo-IPv4",
        "X-Appengine-User-IP",
    ),
    *("CloudFront-Viewer-Address", "Cdn-Src-Ip", "X-Vercel-Ip", "X-Origin-Ip", "Remote-Address", "X-Remote-Address"),
    *("X-Client-IPAddress", "X-User-IP-Address", "Visitor-Ip", "X-Replaced-Path", "SCRIPT_NAME", "PATH_INFO"),
    *("X-Override-URL", "X.Original.URL", "SSL.CLIENT.CERT", "X-Vercel-Forwarded-For", "X~Real~IP"),
    *("X-Cluster-Client-IP", "Fastly-Client-IP", "X_CLIENT_IP", "Client-IP", "WL-Proxy-Client-IP", "X-Azure-ClientIP"),
]


def test_no_header_of_a_client_says_another_path_or_address(site: Site) -> None:
    site.apply(ingress("headers", ("headers.example", "Prefix", "/", "web")))
    site.until("headers.example", "/", "one")
    sent = dict.fromkeys(CLAIMED, "/admin")
    _, _, body = site.request("GET", "headers.example", "/", sent | {"X-Kept": "1"})
    told = {name.lower() for name in body["headers"]}
    assert "x-kept" in told
    assert [name for name in CLAIMED if name.lower() in told] == []


# What a rewriting route is asked for -> what the pod gets; None: refused.
REWRITTEN = {
    "/a/b/c/x": "/pub/x",
    "/a/b/c/": "/pub/",
    "/a/b/c/admin": "/pub/admin",
    "/shop/admin": "/admin",  # this is what its owner wrote
    "/shop/admin/": "/admin/",
    "/shop/x": "/x",
    **dict.fromkeys(
        ["/a/b/c/..;/admin", "/a/b/c/../admin", "/a/b/c/%2e%2e/admin", "/a/b/c/..%2fadmin", "/a/b/c/..%5cadmin",
         "/a/b/c/%252e%252e/admin", "/a/b/c/x/../../admin", "/a/b/c/..;/ADMIN", "/a/b/c/%c0%ae./admin",
         "/shop//admin", "/shop/;/admin", "/a/b/c/../../../x"]
    ),
}  # fmt: skip


def test_no_form_of_a_path_leads_a_rewriting_route_out_of_its_target(site: Site) -> None:
    name, words = "made.guards.example", {"use-regex": "true"}
    site.apply(
        ingress("open", (name, "Prefix", "/", "web")),
        ingress("guarded", (name, "Prefix", "/admin", "web"), annotations=NOBODY),
        ingress("below", (name, "Prefix", "/a/b/c/(.*)", "web"), annotations=words | {"rewrite-target": "/pub/$1"}),
        ingress("all", (name, "Prefix", "/shop(/|$)(.*)", "web"), annotations=words | {"rewrite-target": "/$2"}),
    )
    wait_for(lambda: statuses(site, name, ["//admin", "/shop//admin", "/a/b/c/..;/admin"]) == [400] * 3, "its routes")
    wait_for(
        lambda: [site.request("GET", name, path)[2]["path"] for path in ("/a/b/c/x", "/shop/x")] == ["/pub/x", "/x"], ""
    )
    found = {}
    for target in REWRITTEN:
        status, _, body = site.request("GET", name, target)
        found[target] = body["path"] if status == 200 else None
    assert found == REWRITTEN
