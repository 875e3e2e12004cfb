"""Writes the TLS words of `bind` and `server` lines: certificates, verification, versions, ciphers, ALPN. No I/O.

HAProxy configuration manual 2.6, sections 5.1 and 5.2. What is offered by default is TLS 1.2 and 1.3 with forward
secrecy and authenticated encryption (RFC 9325, section 4.2).
"""

import re

from vrata.base.errors import InvalidInput
from vrata.haproxy.model import BindTls, ServerTls, Tls, Verify

VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
DEFAULT_VERSIONS = ("TLSv1.2", "TLSv1.3")
DEFAULT_CIPHERS = ":".join(
    f"{exchange}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for exchange in ("ECDHE-ECDSA", "ECDHE-RSA")
)
DEFAULT_ALPN = ("h2", "http/1.1")
_ALPN = ("h2", "http/1.1", "http/1.0")
_CIPHER = re.compile(r"[+!-]?(?!TLS_)[A-Za-z0-9][A-Za-z0-9+_.-]{0,63}|@STRENGTH|@SECLEVEL=[0-5]")
_SUITE = re.compile(r"TLS_[A-Z0-9_]{1,60}")
_WORD = {"TLSv1": "TLSv1.0"}  # HAProxy's word, where it differs from Octavia's
_FILE = re.compile(r"[a-z]{2,4}-[0-9a-f]{8,64}\.(pem|txt)")
_DIRECTORY = re.compile(r"/[A-Za-z0-9_./@+-]{1,200}")


def tls_path(directory: str, name: str) -> str:
    """Where a file of the configuration is."""
    if not _DIRECTORY.fullmatch(directory):
        raise InvalidInput("tls_dir", directory, "use a plain absolute path")
    if not _FILE.fullmatch(name):
        raise InvalidInput("tls file", name, "use a name made by the host")
    return f"{directory}/{name}"


def bind_words(tls: BindTls, directory: str) -> list[str]:
    """The words after `bind ADDRESS:PORT`."""
    words = ["ssl", "crt-list", tls_path(directory, tls.certificates)]
    if tls.verify is not Verify.NONE:
        if tls.authority is None:
            raise InvalidInput("client_ca_tls_container_ref", None, "give the authority of the clients' certificates")
        words += ["ca-file", tls_path(directory, tls.authority), "verify", str(tls.verify)]
        if tls.revoked is not None:
            words += ["crl-file", tls_path(directory, tls.revoked)]
    return [*words, *_protocol(tls, DEFAULT_ALPN)]


def server_words(tls: ServerTls, directory: str, sni: str | None) -> list[str]:
    """The words of a `server` line; also good for `add server` once the files are loaded. `sni`: an expression."""
    words = ["ssl"]
    if tls.authority is not None:
        words += ["ca-file", tls_path(directory, tls.authority), "verify", "required"]
        if tls.revoked is not None:
            words += ["crl-file", tls_path(directory, tls.revoked)]
    else:
        words += ["verify", "none"]
    if tls.certificate is not None:
        words += ["crt", tls_path(directory, tls.certificate)]
    if sni:
        words += ["sni", sni]
    if hole_versions(tls):
        raise InvalidInput("pool.tls_versions", list(tls.versions), "use versions without a gap between them")
    return [*words, *_protocol(tls, ())]


def hole_versions(tls: Tls) -> list[str]:
    """Versions inside the offered range that are not wanted: HAProxy 2.6 can only refuse them after the handshake."""
    versions = _offered(tls)
    inside = VERSIONS[VERSIONS.index(versions[0]) : VERSIONS.index(versions[-1])]
    return [version for version in inside if version not in versions]


def _offered(tls: Tls) -> list[str]:
    for version in tls.versions:
        if version not in VERSIONS:
            raise InvalidInput("tls_versions", version, f"use {', '.join(VERSIONS)}; OpenSSL speaks nothing older")
    wanted = [version for version in VERSIONS if version in (tls.versions or DEFAULT_VERSIONS)]
    if tls.ciphers is not None and not _split(tls.ciphers)[0]:
        # Only suites of TLS 1.3 are named: older versions would have nothing to offer.
        wanted = [version for version in wanted if version == "TLSv1.3"]
        if not wanted:
            raise InvalidInput("tls_ciphers", tls.ciphers, "name ciphers of the TLS versions that are allowed")
    return wanted


def _split(ciphers: str) -> tuple[list[str], list[str]]:
    """OpenSSL's names up to TLS 1.2, and suites of TLS 1.3, which HAProxy wants apart."""
    classic, suites = [], []
    for word in ciphers.split(":"):
        if _SUITE.fullmatch(word):
            suites.append(word)
        elif _CIPHER.fullmatch(word):
            classic.append(word)
        else:
            raise InvalidInput("tls_ciphers", ciphers, "use names of OpenSSL's cipher list, separated by colons")
    if classic and all(word[0] in "+!-@" for word in classic):
        raise InvalidInput("tls_ciphers", ciphers, "name at least one cipher to offer, not only ones to leave out")
    return classic, suites


def _protocol(tls: Tls, default_alpn: tuple[str, ...]) -> list[str]:
    versions = _offered(tls)
    words = ["ssl-min-ver", _WORD.get(versions[0], versions[0]), "ssl-max-ver", _WORD.get(versions[-1], versions[-1])]
    classic, suites = _split(tls.ciphers) if tls.ciphers is not None else (DEFAULT_CIPHERS.split(":"), [])
    if "TLSv1" in versions or "TLSv1.1" in versions:
        # OpenSSL 3 has these two only at its level 0; their ciphers are not among the default ones.
        classic = [*(classic if tls.ciphers is not None else ["DEFAULT"]), "@SECLEVEL=0"]
    if classic:
        words += ["ciphers", ":".join(classic)]
    if suites:
        words += ["ciphersuites", ":".join(suites)]
    for protocol in tls.alpn:
        if protocol not in _ALPN:
            raise InvalidInput("alpn_protocols", protocol, f"use {', '.join(_ALPN)}")
    alpn = tls.alpn or default_alpn
    return [*words, "alpn", ",".join(alpn)] if alpn else words
