"""cloud.conf as the OpenStack cloud controller reads it: syntax, meaning, defaults, refusals."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vrata.base.errors import InvalidInput
from vrata.provider.conf import parse_conf
from vrata.provider.gcfg import parse
from vrata.provider.model import BalancerClass, Settings

A, B = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
LOGIN = "[Global]\nauth-url = https://cloud.example:5000/v3\nusername = k8s\npassword = secret\ntenant-name = web\n"
WHOLE = f"""\
; as kubespray and kops write it
[Global]
auth-url="https://cloud.example:5000/v3"
application-credential-id="{A}"
application-credential-secret="p#ss;w\\"rd\\\\"   # quoted: no comment inside
region="RegionOne"
ca-file=/etc/ssl/cloud.pem
tls-insecure=false
os-endpoint-type=internal
[LoadBalancer]
enabled=true
use-octavia=true
lb-provider=ovn
lb-method = SOURCE_IP_PORT
SUBNET-ID={A}
floating-network-id={B} ; the internet
floating-subnet="~public-[0-9]+"
create-monitor
monitor-delay=1m
monitor-timeout=30s
monitor-max-retries=3
max-shared-lb=2
container-store=external
internal-lb=yes
[LoadBalancerClass "dmz"]
floating-subnet-tags="a&b"
network-id={B}
[LoadBalancerClass "plain"]
[Networking]
public-network-name=public
public-network-name=other
ipv6-support-disabled=true
[Route]
router-id={A}
[Metadata]
search-order=configDrive,metadataService
request-timeout=90s
[BlockStorage]
bs-version=v3
"""


def test_whole_file_means_what_it_says() -> None:
    conf = parse_conf(WHOLE, cluster="production")

    assert conf.settings == Settings(
        cluster="production",
        provider="ovn",
        algorithm="SOURCE_IP_PORT",
        subnet_id=A,
        floating_network_id=B,
        floating_subnet="~public-[0-9]+",
        monitor=True,
        monitor_delay_s=60,
        monitor_timeout_s=30,
        monitor_retries=3,
        check_tls_container=False,
        internal=True,
        classes=(("dmz", BalancerClass(floating_subnet_tags="a&b", network_id=B)), ("plain", BalancerClass())),
    )
    assert conf.login.arguments == {
        "auth": {
            "auth_url": "https://cloud.example:5000/v3",
            "application_credential_id": A,
            "application_credential_secret": 'p#ss;w"rd\\',
        },
        "auth_type": "v3applicationcredential",
        "region_name": "RegionOne",
        "cacert": "/etc/ssl/cloud.pem",
        "interface": "internal",
    }
    assert conf.networking.public_network_names == ("public", "other")
    assert conf.networking.ipv6_support_disabled
    assert conf.networking.router_id == A
    assert conf.request_timeout_s == 90.0
    assert conf.ignored == (
        "[loadbalancer] use-octavia", "[loadbalancer] max-shared-lb", "[metadata] search-order", "[blockstorage]",
    )  # fmt: skip


def test_defaults_are_those_of_the_controller_that_wrote_the_file() -> None:
    settings = parse_conf(LOGIN).settings

    assert not settings.monitor
    assert settings.provider == "amphora"
    assert (settings.algorithm, settings.check_tls_container) == ("ROUND_ROBIN", True)


@pytest.mark.parametrize(
    ("lines", "kind", "expected"),
    [
        ("username=u\npassword=p\ndomain-name=D", "v3password", {"user_domain_name": "D", "project_domain_name": "D"}),
        ("user-id=u\npassword=p\ntenant-id=t\ntrust-id=x", "v3password", {"trust_id": "x", "user_id": "u"}),
        ("trust-id=x\ntrustee-id=v\ntrustee-password=q", "v3password", {"user_id": "v", "password": "q"}),
        ("token=abc\ntenant-id=t", "v3token", {"token": "abc", "project_id": "t"}),
        (
            "username=u\nuser-domain-id=d\napplication-credential-name=n\napplication-credential-secret=s",
            "v3applicationcredential",
            {"application_credential_name": "n", "username": "u"},
        ),
    ],
)
def test_every_way_to_log_in(lines: str, kind: str, expected: dict[str, str]) -> None:
    arguments = parse_conf(f"[Global]\nauth-url=http://k/v3\n{lines}\n").login.arguments

    assert arguments["auth_type"] == kind
    assert expected.items() <= arguments["auth"].items()
    assert not {"domain_name", "domain_id"} & arguments["auth"].keys()


def test_trust_carries_its_own_project() -> None:
    login = parse_conf("[Global]\nauth-url=http://k/v3\nuser-id=u\npassword=p\ntenant-id=t\ntrust-id=x\n").login

    assert "project_id" not in login.arguments["auth"]


def test_clouds_yaml_may_say_the_rest() -> None:
    login = parse_conf("[Global]\nuse-clouds=true\nclouds-file=/etc/clouds.yaml\ncloud=prod\nregion=R2\n").login

    assert (login.use_clouds, login.clouds_file, login.cloud) == (True, "/etc/clouds.yaml", "prod")
    assert login.arguments == {"region_name": "R2", "auth": {}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[LoadBalancer]\nmonitor-delay=5", ("monitor-delay", "'5'", "5s")),
        ("[LoadBalancer]\nmonitor-delay=1500ms", ("monitor-delay", "whole seconds")),
        ("[LoadBalancer]\nmonitor-max-retries=11", ("monitor-max-retries", "'11'", "1 to 10")),
        ("[LoadBalancer]\ncreate-monitor=maybe", ("create-monitor", "'maybe'", "true or false")),
        ("[LoadBalancer]\nsubnet-id=tenant", ("[loadbalancer] subnet-id", "'tenant'", "UUID")),
        ("[LoadBalancer]\nlb-method=RANDOM", ("lb-method", "'RANDOM'", "ROUND_ROBIN")),
        ("[LoadBalancer]\nlb-version=v1", ("lb-version", "'v1'", "v2")),
        ("[LoadBalancer]\nsubnett-id=x", ("subnett-id", "'x'", "no such key")),
        ("[LoadBalancers]\n", ("[loadbalancers]",)),
        ("[LoadBalancerClass]\nsubnet-id=x", ("[LoadBalancerClass]", 'write [LoadBalancerClass "name"]')),
        ('[LoadBalancerClass "x"]\nlb-method=x', ('[loadbalancerclass "x"] lb-method', "no such key")),
        ("[Global]\ncert-file=/c.pem", ("key-file", "together")),
        ("[LoadBalancer]\nsubnet-id", ("subnet-id", "key=value")),
        ('[LoadBalancer]\nsubnet-id="x', ("line 7", "quotes")),
        ("[LoadBalancer]\nnode-selector=\\d", ("line 7", "backslash")),
        ("[LoadBalancer]\n= x", ("line 7", "key=value")),
    ],
)
def test_what_is_wrong_is_named(line: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_conf(f"{LOGIN}{line}\n")

    for word in words:
        assert word in str(refused.value)


def test_misspelt_password_stays_unsaid() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_conf(f"{LOGIN}pasword=hunter2\n")

    assert "pasword" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "secret" not in repr(parse_conf(LOGIN))


@pytest.mark.parametrize(
    "left", ["auth-url = https://cloud.example:5000/v3\n", "username = k8s\n", "password = secret\n"]
)
def test_incomplete_login_says_what_is_missing(left: str) -> None:
    with pytest.raises(InvalidInput, match=left.partition(" ")[0]):
        parse_conf(LOGIN.replace(left, ""))


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("a b  ", "a b"),
        ('"a b  "', "a b  "),
        ('x"; "y ; z', "x; y"),
        ("a\\\nb", "ab"),
        ('"a\\tb\\n"', "a\tb\n"),
        ("", ""),
        ("c:\\\\d\r", "c:\\d"),
    ],
)
def test_values_are_quoted_escaped_continued(raw: str, value: str) -> None:
    assert [entry.value for entry in parse(f"[s]\nk ={raw}\n") if entry.key] == [value]


def test_a_byte_order_mark_and_indentation_do_no_harm() -> None:
    (_, entry) = parse('\ufeff  [A "b\\"c"] # why\n\tKey\n')

    assert (entry.section, entry.name, entry.key, entry.value, entry.line) == ("a", 'b"c', "key", None, 2)


WORDS = st.sampled_from([*WHOLE.split(), "=", '"', "\\", "[", "]", "\n", ";", "1h", "true", "\0", " ", "-1"])


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=40).map(" ".join), st.lists(WORDS).map("\n".join)))
@example("[loadbalancer]\nmonitor-delay=" + "9" * 5000 + "s")
@example(LOGIN + '[loadbalancerclass "\\"]')
def test_any_text_gives_settings_or_says_why_not(text: str) -> None:
    for whole in (text, LOGIN + text):
        assert said(whole)


def said(text: str) -> object:
    """The settings, or the remedy; any other exception passes."""
    try:
        return parse_conf(text)
    except InvalidInput as refused:
        return refused.remedy


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=60))
def test_a_quoted_value_comes_back_as_it_was(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    conf = parse_conf(f'{LOGIN}[LoadBalancer]\nnode-selector = "{quoted}" # so\n')

    assert conf.settings.node_selector == value
