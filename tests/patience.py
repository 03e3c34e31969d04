"""How long a test waits for what must come: only a hang takes that long, and no machine is that busy."""

PATIENCE = 1800.0
"""Seconds."""
