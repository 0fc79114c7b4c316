"""A request that an entity claims: performed, forwarded, compared."""
