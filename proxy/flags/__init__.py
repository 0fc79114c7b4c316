"""Which stage each entity is at, as this replica and the stores know it, and what a replica may do by it."""
