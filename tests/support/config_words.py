"""Reads a line of a HAProxy configuration as HAProxy 2.6 does: the other half of quoting, for tests."""


def split_line(text: str) -> list[str]:
    """Split a line into words as HAProxy 2.6 does (configuration manual, section 2.2)."""
    words: list[str] = []
    word: str | None = None
    state, escaped = "", False
    for char in text:
        if escaped:
            word, escaped = (word or "") + char, False
        elif state == "'":
            state, word = ("", word) if char == "'" else (state, (word or "") + char)
        elif char == '"':
            state, word = ("" if state == '"' else '"'), word or ""
        elif state == '"':
            word = (word or "") + char
        elif char == "\\":
            escaped = True
        elif char == "'":
            state, word = "'", word or ""
        elif char == " ":
            words, word = ([*words, word] if word is not None else words), None
        elif char == "#":
            break
        else:
            word = (word or "") + char
    return [*words, word] if word is not None else words
