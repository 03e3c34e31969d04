"""The large reconstruction model: four views in, a signed distance field with colours out.

PRM (Ge et al. 2024), a descendant of InstantMesh (Xu et al. 2024), written anew. Module attributes are named so that
the published checkpoint's 527 tensors load as they are.
"""
