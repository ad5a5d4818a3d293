"""The simulated battery: cells by porous-particle diffusion and kinetics, strings, heat, ageing. Not the estimator's model."""
