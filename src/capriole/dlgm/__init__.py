"""Latent-variable models trained with a learned sampler (Levy et al. 2018, section 5.2)."""
