"""See `configure`. The files that take longest come first, so that two workers end together."""

from configure import few_compiled_programs, standard_promotion  # noqa: F401

LONGEST = (
    "test_fit.py",
    "test_docs.py",
    "test_fit_runs.py",
    "test_training_loop.py",
    "test_exactness.py",
    "test_invariance.py",
    "test_mutants.py",
)


def pytest_collection_modifyitems(items):
    """Longest files first; the order within a file stays."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
