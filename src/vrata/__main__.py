"""`python -m vrata`: how the sandbox starts its parts, whatever is on PATH."""

from vrata.cli.main import main

main()
