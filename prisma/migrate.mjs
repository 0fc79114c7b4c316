// Migrations by the official schema engine: `node migrate.mjs deploy` applies those that the database at DATABASE_URL lacks,
// `node migrate.mjs diff NAME` writes the next one, from what the migrations make to what the schema says.

import fs from 'node:fs'
import path from 'node:path'
import { withSchemaEngine } from './engine/schema-engine.mjs'

const SCHEMA = process.env.STRANGLER_SCHEMA ?? path.join(import.meta.dirname, 'schema.prisma')
const FOLDER = process.env.STRANGLER_MIGRATIONS ?? path.join(path.dirname(SCHEMA), 'migrations')
const LOCK = '# Written by db:diff; it belongs under version control.\nprovider = "postgresql"\n'
const NO_FILTERS = { externalTables: [], externalEnums: [] }

class Usage extends Error {}

async function deploy(url) {
  const applied = await withSchemaEngine(url, schema(), (engine) =>
    engine.applyMigrations({ migrationsList: migrations(), filters: NO_FILTERS }))
  const names = applied.appliedMigrationNames
  console.log(names.length ? `applied ${names.join(', ')}` : 'nothing to apply')
}

async function diff(url, name) {
  if (!/^[a-z][a-z0-9_]*$/.test(name ?? '')) throw new Usage('diff needs a NAME of lower-case letters, digits and _')
  const to = { tag: 'schemaDatamodel', files: [{ path: 'schema.prisma', content: schema() }] }
  const from = { tag: 'migrations', ...migrations() }
  const options = { script: true, exitCode: true, shadowDatabaseUrl: null, filters: NO_FILTERS }
  const found = await withSchemaEngine(url, schema(), (engine) => engine.diff({ from, to, ...options }))
  if (found.exitCode === 0) return console.log('the migrations make what the schema says: nothing to write')
  const number = String(names().length + 1).padStart(4, '0')
  const target = path.join(FOLDER, `${number}_${name}`)
  fs.mkdirSync(target, { recursive: true })
  fs.writeFileSync(path.join(target, 'migration.sql'), found.stdout)
  fs.writeFileSync(path.join(FOLDER, 'migration_lock.toml'), LOCK)
  console.log(`wrote ${path.relative(process.cwd(), target)}/migration.sql: read it before it is applied`)
}

const schema = () => fs.readFileSync(SCHEMA, 'utf8')

function names() {
  if (!fs.existsSync(FOLDER)) return []
  const entries = fs.readdirSync(FOLDER, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name).sort()
}

/** The migrations as the engine takes them, in the order of their names. */
function migrations() {
  const lock = path.join(FOLDER, 'migration_lock.toml')
  return {
    baseDir: FOLDER,
    lockfile: { path: 'migration_lock.toml', content: fs.existsSync(lock) ? fs.readFileSync(lock, 'utf8') : LOCK },
    shadowDbInitScript: '',
    migrationDirectories: names().map((name) => ({
      path: name,
      migrationFile: { path: 'migration.sql', content: script(name) },
    })),
  }
}

function script(name) {
  try {
    return { tag: 'ok', value: fs.readFileSync(path.join(FOLDER, name, 'migration.sql'), 'utf8') }
  } catch (error) {
    return { tag: 'error', value: error.message }
  }
}

async function main([command, ...rest]) {
  const url = process.env.DATABASE_URL
  if (!url) throw new Usage('DATABASE_URL names no database')
  if (command === 'deploy') return deploy(url)
  if (command === 'diff') return diff(url, rest[0])
  throw new Usage('expected `deploy` or `diff NAME`')
}

// The engine leaves a timer of ten seconds behind, the deadline of a lock that it got: nothing waits for it.
main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(`migrate: ${error.message.trim()}`)
    process.exit(error instanceof Usage ? 2 : 1)
  },
)
