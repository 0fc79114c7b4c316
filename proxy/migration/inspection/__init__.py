"""What is in a legacy collection, and what of it the model cannot hold."""
