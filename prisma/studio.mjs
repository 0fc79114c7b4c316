// Prisma Studio on the database at DATABASE_URL: the CLI, told where its schema engine is so that it does not look for one.

import { spawn } from 'node:child_process'

const cli = spawn(process.execPath, ['node_modules/prisma/build/index.js', 'studio', ...process.argv.slice(2)], {
  cwd: import.meta.dirname,
  stdio: 'inherit',
  env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, CHECKPOINT_DISABLE: '1' },
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => cli.kill(signal))
cli.on('exit', (status) => (process.exitCode = status ?? 1))
