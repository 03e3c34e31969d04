"""The objects that kiss3d's own example pictures, meshes and bundles are made of: signed distances, traced."""
