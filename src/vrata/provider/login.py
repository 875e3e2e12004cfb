"""How to log in: `[Global]` of cloud.conf in openstacksdk's words. Pure; nothing here is ever shown, it holds secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vrata.base.errors import InvalidInput


@dataclass(frozen=True)
class Login:
    """How to reach the cloud. `arguments` are openstacksdk's own for a cloud (`auth`, `region_name`, `cacert` …); with
    `use_clouds` they stand above what clouds.yaml says. Never shown: they hold secrets."""

    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    use_clouds: bool = False
    clouds_file: str | None = None
    cloud: str | None = None


def login_of(values: dict[str, Any]) -> Login:
    """Sort the keys of [Global] into openstacksdk's arguments."""
    given = {key: value for key, value in values.items() if value not in ("", None)}
    use_clouds = given.pop("use_clouds", False)
    clouds_file, cloud = given.pop("clouds_file", None), given.pop("cloud", None)
    trustee_id, trustee_password = given.pop("trustee_id", None), given.pop("trustee_password", None)
    auth = {key.removeprefix("auth."): value for key, value in given.items() if key.startswith("auth.")}
    beside = {key: value for key, value in given.items() if not key.startswith("auth.")}
    # What it calls domain is the user's and the project's; to Keystone it would be a scope of its own.
    for key in ("domain_id", "domain_name"):
        if key in auth:
            domain = auth.pop(key)
            for whose in ("user", "project"):
                if not auth.keys() & {f"{whose}_domain_id", f"{whose}_domain_name"}:
                    auth[f"{whose}_{key}"] = domain
    if "trust_id" in auth:
        auth |= {"user_id": trustee_id} if trustee_id else {}
        auth |= {"password": trustee_password} if trustee_password else {}
        # The trust is the scope; a project beside it is refused.
        auth = {key: value for key, value in auth.items() if not key.startswith("project_")}
    if beside.pop("insecure", False):
        beside["verify"] = False
    if ("cert" in beside) != ("key" in beside):
        missing = "key-file" if "cert" in beside else "cert-file"
        raise InvalidInput(f"[global] {missing}", "", "cert-file and key-file go together")
    kind = _auth_type(auth)
    if kind:
        beside["auth_type"] = kind
    if not use_clouds:
        _check_complete(auth, kind)
    return Login({**beside, "auth": auth}, use_clouds=use_clouds, clouds_file=clouds_file, cloud=cloud)


def _auth_type(auth: dict[str, str]) -> str | None:
    if "application_credential_secret" in auth:
        return "v3applicationcredential"
    if "token" in auth:
        return "v3token"
    return "v3password" if "password" in auth else None


def _check_complete(auth: dict[str, str], kind: str | None) -> None:
    if "auth_url" not in auth:
        raise InvalidInput("[global] auth-url", "", "name Keystone's address, or use-clouds=true")
    if kind is None:
        raise InvalidInput("[global] password", "", "give a password, an application credential, a trust or a token")
    if kind == "v3password" and not auth.keys() & {"username", "user_id"}:
        raise InvalidInput("[global] username", "", "name the user to whom the password belongs")
    if kind == "v3applicationcredential" and not auth.keys() & {
        "application_credential_id",
        "application_credential_name",
    }:
        raise InvalidInput("[global] application-credential-id", "", "name the credential to which the secret belongs")
