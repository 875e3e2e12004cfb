"""Who a request comes from, and whether the stored roles let it pass.

Tokens of ServiceAccounts are JSON web tokens (RFC 7519) of this server, HS256. They end with their time, and with the
ServiceAccount. The administrator's token may act for another user (documentation, «User impersonation»).
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers

from vrata.base.clock import rfc3339
from vrata.sandbox.apiserver import errors, rbac
from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.rbac import ACCOUNT, ADMINISTRATOR, AUTHENTICATED, GROUP, MASTERS, Policy, User, Wish
from vrata.sandbox.apiserver.store import Event, Record, Store

SHORTEST_S: Final = 600
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
_ROLES: Final = (f"roles.{GROUP}", f"clusterroles.{GROUP}")
_BINDINGS: Final = (f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}")
_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Tokens:
    """Issues and reads tokens of ServiceAccounts. `secret` signs them."""

    secret: bytes

    @cached_property
    def _key(self) -> bytes:
        return hashlib.sha256(b"service account tokens\x00" + self.secret).digest()

    def _sign(self, body: str) -> str:
        return _text(hmac.digest(self._key, body.encode(), "sha256"))

    def issue(self, namespace: str, name: str, uid: str, now: datetime, expires: datetime) -> str:
        """A token for one ServiceAccount."""
        kubernetes = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        claims = {
            "iss": ISSUER, "sub": f"{ACCOUNT}{namespace}:{name}", "iat": int(now.timestamp()),
            "exp": int(expires.timestamp()), "kubernetes.io": kubernetes,
        }  # fmt: skip
        body = f"{_text(_HEADER)}.{_text(msgspec.json.encode(claims))}"
        return f"{body}.{self._sign(body)}"

    def read(self, token: str, now: datetime) -> tuple[str, str, str] | None:
        """Namespace, name and uid; None for a token that is not of this server, or has ended."""
        body, _, signature = token.rpartition(".")
        if not body or not hmac.compare_digest(self._sign(body).encode(), signature.encode()):
            return None
        claims = msgspec.json.decode(_bytes(body.partition(".")[2]))
        about = claims["kubernetes.io"]
        if claims["exp"] <= now.timestamp():
            return None
        return about["namespace"], about["serviceaccount"]["name"], about["serviceaccount"]["uid"]


class Access:
    """Authentication and authorization of one server."""

    def __init__(self, store: Store, token: str) -> None:
        self._store, self._token = store, token.encode()
        self.tokens = Tokens(self._token)
        self._policy: Policy | None = None
        store.on_write.append(self._follow)

    def _follow(self, event: Event, _record: Record, _old: Record | None) -> None:
        if event.resource in (*_ROLES, *_BINDINGS):
            self._policy = None

    @property
    def policy(self) -> Policy:
        """The roles and bindings that are stored now."""
        if self._policy is None:
            roles = {record.key: record.load() for one in _ROLES for record in self._store.scan(one)}
            self._policy = Policy(roles, [record.load() for one in _BINDINGS for record in self._store.scan(one)])
        return self._policy

    def user(self, headers: Headers, now: datetime) -> User:
        """Who a request comes from; ApiError 401 if that cannot be told, 403 if it may not act for another."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip()
        if kind.lower() != "bearer":
            raise errors.unauthorized()
        if hmac.compare_digest(given.encode(), self._token):
            user = ADMINISTRATOR
        else:
            found = self.tokens.read(given, now)
            record = self._store.get("serviceaccounts", found[0], found[1]) if found else None
            if found is None or record is None or record.uid != found[2]:
                raise errors.unauthorized()
            user = rbac.account(found[0], found[1])
        return self._acting(user, headers)

    def _acting(self, user: User, headers: Headers) -> User:
        name = headers.get("impersonate-user")
        if not name:
            return user
        if MASTERS not in user.groups:
            raise denied(user, Wish("impersonate", "", "users", name))
        groups = headers.getlist("impersonate-group")
        if name.startswith(ACCOUNT) and not groups and name.count(":") == 3:
            return rbac.account(*name.removeprefix(ACCOUNT).split(":"))
        return User(name, (*groups, AUTHENTICATED))

    def check(self, user: User, wish: Wish) -> None:
        """ApiError 403 unless the user may."""
        if not self.policy.allows(user, wish):
            raise denied(user, wish)

    def check_written(self, user: User, kind: str, obj: Obj) -> None:
        """ApiError 403 if a role or binding would give more than the user who writes it has."""
        if kind not in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
            return
        beyond = self.policy.excess(user, kind, obj)
        if beyond:
            name = obj["metadata"].get("name", "")
            said = f'user "{user.name}" is attempting to grant RBAC permissions not currently held: {beyond}'
            raise errors.forbidden(f"{kind.lower()}s", GROUP, name, said)

    def issue(self, account: Obj, spec: Obj, now: datetime) -> Obj:
        """The status of a TokenRequest."""
        meta = account["metadata"]
        seconds = spec.get("expirationSeconds") or 3600
        if seconds < SHORTEST_S:
            cause = errors.invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            raise errors.object_invalid("TokenRequest", "authentication.k8s.io", "", [cause])
        expires = now + timedelta(seconds=seconds)
        token = self.tokens.issue(meta["namespace"], meta["name"], meta["uid"], now, expires)
        return {"token": token, "expirationTimestamp": rfc3339(expires)}

    def review(self, user: User, spec: Obj) -> dict[str, Any]:
        """The status of a SelfSubjectAccessReview."""
        wish = reviewed(spec)
        allowed = self.policy.allows(user, wish)
        return {"allowed": allowed} | ({} if allowed else {"reason": f"no rule grants it to {user.name}"})


def reviewed(spec: Obj) -> Wish:
    """What a SelfSubjectAccessReview asks about."""
    if path := spec.get("nonResourceAttributes"):
        return Wish(path.get("verb", ""), path=path.get("path", ""))
    about = spec.get("resourceAttributes") or {}
    resource = about.get("resource", "")
    if about.get("subresource"):
        resource += f"/{about['subresource']}"
    return Wish(
        about.get("verb", ""), about.get("group", ""), resource, about.get("name", ""), about.get("namespace", "")
    )


def denied(user: User, wish: Wish) -> errors.ApiError:
    """403 in the words of Kubernetes' authorizer."""
    said = f'User "{user.name}" cannot {wish}'
    if wish.path:
        return errors.ApiError(403, "Forbidden", f"forbidden: {said}")
    plural = wish.resource.partition("/")[0]
    about = f"{errors.qualified(plural, wish.group)}{f' {wish.name!r}' if wish.name else ''}".replace("'", '"')
    details = {"name": wish.name, "group": wish.group, "kind": plural}
    return errors.ApiError(403, "Forbidden", f"{about} is forbidden: {said}", {k: v for k, v in details.items() if v})
