"""What the annotations of an Ingress ask for, as validated values; pure, and nothing a user writes is a directive."""
