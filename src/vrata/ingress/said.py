"""Which headers of clients do not reach pods: pure."""

# Names under which proxies say what no client can say of itself, above all whose certificate it has shown (RFC 9440, 2.4);
# paths that some servers take for the request's; and `Proxy`, which CGI programs take for a setting of theirs (httpoxy,
# CVE-2016-5385).
_OURS = (
    "forwarded|http2_settings|proxy|front_end_https|wl_proxy_.*|x_amzn_mtls_.*|(x_)?(ssl|m?tls)(_.*)?"
    "|(x_)?(client|subject|issuer)_(cert(ificate)?(_.*)?|verify|.*dn|serial|fingerprint)"
    "|x_(forwarded(_.*)?|real_ip|scheme|original_.*|rewrite_.*"
    "|envoy_(original_path|external_address)|http_(path|url|destinationurl)|override_(url|path)|request_uri"
    "|ms_original_.*|waws_.*|arr_.*|host|http_host_override)"
    "|(x_)?(script_name|path_info|path_translated|replaced_path|traversal_path)"
)
# The client's address as various CDNs and proxies write it, whatever they put before these words.
_ADDRESSES = (
    "(.*_)?((client|client_connection|connecting|real|remote|socket|source|src|origin|originating|proxyuser|true|user|viewer"
    "|visitor|vercel)_?(ip(v[46])?|(ip_?)?addr(ess)?)|forward(ed|er)?_for|pseudo_ipv4)"
)


def dropped_headers(forwarded: tuple[str, ...]) -> str:
    """Lines of a frontend; the networks of `--forwarded-from` may say a client's address in headers of their own."""
    if not forwarded:
        return _del_headers(f"{_OURS}|{_ADDRESSES}")
    trusted = f"unless {{ var(sess.client) -m ip {' '.join(forwarded)} }}"
    return _del_headers(_OURS) + _del_headers(_ADDRESSES, trusted)


def _del_headers(names: str, condition: str = "") -> str:
    """Many a pod reads `_`, some every character that is no letter, as `-`."""
    return f"  http-request del-header '^({names.replace('_', '[^a-z0-9]')})$' -m reg {condition}".rstrip() + "\n"
