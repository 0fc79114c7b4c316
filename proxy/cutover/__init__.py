"""Changing a flag: the guards, the fenced flip, and who coordinates them."""
