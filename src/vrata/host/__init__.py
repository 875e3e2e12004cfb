"""The agent on a host: desired instances in; HAProxy, keepalived and nftables out; status back."""
