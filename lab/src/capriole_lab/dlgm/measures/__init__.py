"""How good a decoder and its sampler are: log p(x), in-painting, posteriors, classes."""
