"""A learned prior of our own: front and back of an object from one picture, with weights in the package."""
