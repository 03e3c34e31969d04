"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193): features of pictures."""
