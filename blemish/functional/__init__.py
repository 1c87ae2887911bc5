"""Pure functions of tensors: the mathematics of blur, noise, JPEG and resampling. Seeded, without state."""
