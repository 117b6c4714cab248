"""``python -m capriole.cli``."""

from ._app import main

main()
