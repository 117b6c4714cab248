"""Checks of a page that must stand alone."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link"}


class Balanced(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    """Tags with attributes, after checking that the page is balanced and fetches nothing."""
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    for tag, attrs in parser.seen:
        assert tag not in ("script", "link", "iframe")
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith("#")
    assert not re.search(r"https?://|url\(|@import", page)
    return parser.seen
