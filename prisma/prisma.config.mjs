import { defineConfig } from 'prisma/config'

// Generating needs no database: the URL may be absent.
export default defineConfig({
  schema: process.env.STRANGLER_SCHEMA ?? 'schema.prisma',
  migrations: { path: 'migrations' },
  datasource: { url: process.env.DATABASE_URL ?? '' },
})
