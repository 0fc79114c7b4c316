"""Backfill: copying by settling, and its rehearsal."""
