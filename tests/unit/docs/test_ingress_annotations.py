"""docs/ingress-annotations.md says what the table says."""

from pathlib import Path

from vrata.ingress.annotations.document import document


def test_document_is_made_from_the_table() -> None:
    assert (Path(__file__).parents[3] / "docs" / "ingress-annotations.md").read_text() == document()
