// Generates both clients: `prisma generate` with the two things in its environment that it cannot find out by itself.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
const ours = path.join(root, '.venv', 'bin')
const named = process.env.STRANGLER_PYTHON
const python = named ? path.dirname(named) : fs.existsSync(ours) ? ours : undefined
const list = (...paths) => paths.filter(Boolean).join(path.delimiter)

const { status, error } = spawnSync(process.execPath, ['node_modules/prisma/build/index.js', 'generate', '--no-hints', ...process.argv.slice(2)], {
  cwd: import.meta.dirname,
  stdio: 'inherit',
  env: {
    ...process.env,
    // The generator is a module of this repository, run by the Python whose package it writes to.
    PATH: list(python, process.env.PATH),
    PYTHONPATH: list(root, process.env.PYTHONPATH),
    // Generating does not run the schema engine, but downloads it unless it is told where one is.
    PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
    CHECKPOINT_DISABLE: '1',
  },
})
if (error) console.error(`generate: ${error.message}`)
process.exitCode = status ?? 1
