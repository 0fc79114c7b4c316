"""Moving what was there before, and proving that it arrived."""
