"""A rule of the balancing API is broken: Octavia's status and sentence for it. Pure."""


class Broken(Exception):
    """HTTP status and sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def broken(detail: str) -> Broken:
    """400 as Octavia's ValidationException words it."""
    return Broken(400, f"Validation failure: {detail}")
