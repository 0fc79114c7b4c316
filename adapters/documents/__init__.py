"""Documents between the two sides and the bodies of the old endpoints. No I/O."""
