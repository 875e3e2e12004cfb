"""HAProxy: model of a configuration, rendering, runtime socket, process, reload."""
