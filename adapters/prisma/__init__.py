"""The Prisma side: the models in PostgreSQL, through Prisma Client on our engine, and what the proxy keeps there."""
