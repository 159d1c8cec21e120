"""How things stand: one snapshot, and its renderers."""
