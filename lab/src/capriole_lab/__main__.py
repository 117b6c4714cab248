"""``python -m capriole_lab``."""

from .cli import main

main()
