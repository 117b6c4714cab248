"""One file for each kind of candidate."""
