"""The laboratory: targets, baselines, peers, the paper's experiments, calibration."""
