// Runs a module of this repository with the Python of its set-up, in the repository's root: `node python.mjs MODULE ARGUMENT…`.
// Its exit status is the module's.

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
const ours = path.join(root, '.venv', 'bin', 'python')
const python = process.env.STRANGLER_PYTHON ?? (fs.existsSync(ours) ? ours : 'python3')
const PYTHONPATH = [root, process.env.PYTHONPATH].filter(Boolean).join(path.delimiter)

const program = spawn(python, ['-m', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, PYTHONPATH },
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => program.kill(signal))
program.on('error', (error) => {
  console.error(`python: ${error.message}`)
  process.exitCode = 1
})
program.on('exit', (status, signal) => (process.exitCode = status ?? (signal === 'SIGINT' ? 130 : 1)))
