"""Verify: both sides compared key by key, what was found confirmed, told and repaired."""
