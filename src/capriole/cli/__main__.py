"""``python -m capriole.cli``."""

from . import main

main()
