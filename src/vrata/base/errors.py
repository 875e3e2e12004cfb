"""Errors that a person reads: what is wrong, with which value, and what to do about it."""


class VrataError(Exception):
    """A failure with a remedy. `str()` is one line fit for a terminal, an event or a log.

    `retriable` says whether trying the same again later can help.
    """

    def __init__(self, message: str, *, remedy: str = "", retriable: bool = True) -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy
        self.retriable = retriable


class InvalidInput(VrataError):
    """User input that can not be acted on until the user changes it; names field, value and remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {value!r} is not valid", remedy=remedy, retriable=False)
        self.field = field
        self.value = value
