"""Samplers of other libraries under one protocol: their own adaptation, gradients counted."""
