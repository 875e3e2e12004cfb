"""Runs containers from OCI images on the sandbox's nodes: images unpacked once a digest, runc does the rest."""
