"""Key manager (Barbican v1): secrets sealed at rest, containers, access lists; certificates for TLS listeners."""
