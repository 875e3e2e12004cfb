"""Identity: who calls, for which project, with which roles (Keystone v3)."""
