"""A diffusion model over sparse wavelet coefficients of signed distances, conditioned on several posed views."""
