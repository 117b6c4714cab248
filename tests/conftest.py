"""See `configure`."""

from configure import few_compiled_programs, standard_promotion  # noqa: F401
