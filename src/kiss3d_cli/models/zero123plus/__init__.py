"""Zero123++: one picture in, a grid of views out."""
