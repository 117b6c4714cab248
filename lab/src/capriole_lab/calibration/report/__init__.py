"""The page of `capriole-lab calibrate`: tables and figures, from stored cells alone."""
