"""`python -m vrata` is `vrata`."""

from vrata.cli.main import main

main()
