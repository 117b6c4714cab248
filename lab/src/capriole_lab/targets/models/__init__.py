"""Posteriors of statistical models, one file each."""
