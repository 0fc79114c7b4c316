"""What any long run over an entity is made of: ranges in their order, a pace, patience, a checkpoint, progress."""
