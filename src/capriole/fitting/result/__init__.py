"""What `capriole.fit` returns, how it shows itself, and what is raised where it failed.

Read `_fit` first, then `_html`.
"""
