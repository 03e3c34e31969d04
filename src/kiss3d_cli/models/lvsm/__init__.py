"""A small Large View Synthesis Model (Jin et al. 2024, arXiv 2410.17242): posed pictures to pictures from elsewhere."""
