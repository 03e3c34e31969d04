"""Seeded random models in the layouts and under the names of the published ones."""
