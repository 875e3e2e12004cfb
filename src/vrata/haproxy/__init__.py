"""HAProxy 2.6 and later: model of a configuration, rendering, runtime socket, process, reload."""
