"""The laboratory: targets, baselines, peers, the paper's experiments, latent-variable models,
calibration.
"""
