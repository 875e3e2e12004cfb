"""Runs the pods of one sandbox node: a pod is a namespace with an address and a process per container."""
