"""``python -m capriole``."""

from .cli import main

main()
