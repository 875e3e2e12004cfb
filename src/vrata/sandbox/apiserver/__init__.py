"""The sandbox's Kubernetes API server: small, exact for its kinds, state in SQLite. Not for production."""
