"""keepalived 2.2 and later: model of a configuration, rendering, process, notifications."""
