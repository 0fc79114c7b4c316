"""Keeping the secondary in step: which keys have changed, and settling them."""
