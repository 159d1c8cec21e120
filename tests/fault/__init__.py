"""Proof that nothing is lost and nothing is done twice, whatever dies."""
