"""The commands: read settings, wire parts together, handle signals."""
