"""keepalived: model of a configuration, rendering, process."""
