// The official schema engine, compiled to WebAssembly: the same diffs and the same `_prisma_migrations` as `prisma migrate`.

import fs from 'node:fs'
import { randomUUID } from 'node:crypto'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils'
import * as engine from '@prisma/schema-engine-wasm/schema_engine_bg'
import pg from 'pg'

const CHAR = 18
const TEXT = 25

/** The catalogues hold columns of the type "char", which the driver adapter does not know: they read well as text. */
class CataloguePool extends pg.Pool {
  async query(...args) {
    const result = await super.query(...args)
    const answers = Array.isArray(result) ? result : [result] // a script has one a statement
    for (const { fields } of answers) for (const field of fields) if (field.dataTypeID === CHAR) field.dataTypeID = TEXT
    return result
  }
}

/** What reaches the database at `url` and, where only the migrations are to speak, an empty one beside it. */
function adapterFactory(url, pool) {
  const connect = async (external) => {
    const adapter = await new PrismaPg(external, { disposeExternalPool: true }).connect()
    // The adapter's own cuts a script at each semicolon, those within a function too. Sent whole, it happens whole or not.
    adapter.executeScript = (script) => external.query(script).then(() => {}, (error) => adapter.onError(error))
    return adapter
  }
  return {
    provider: 'postgres',
    adapterName: '@prisma/adapter-pg',
    connect: () => connect(pool),
    connectToShadowDb: async () => {
      const name = `strangler_shadow_${randomUUID()}`
      const beside = new URL(url)
      beside.pathname = `/${name}`
      await pool.query(`CREATE DATABASE "${name}"`)
      const shadow = await connect(new CataloguePool({ connectionString: beside.href, max: 1 }))
      const dispose = shadow.dispose.bind(shadow)
      shadow.dispose = async () => {
        await dispose()
        await pool.query(`DROP DATABASE "${name}"`)
      }
      return shadow
    },
  }
}

/** Runs `work` with a schema engine for the datamodel `schema` on the database at `url`. */
export async function withSchemaEngine(url, schema, work) {
  const file = new URL('schema_engine_bg.wasm', import.meta.resolve('@prisma/schema-engine-wasm/schema_engine_bg'))
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(file), { './schema_engine_bg.js': engine })
  engine.__wbg_set_wasm(instance.exports)
  instance.exports.__wbindgen_start?.()
  const pool = new CataloguePool({ connectionString: url, max: 2, connectionTimeoutMillis: 10_000 })
  try {
    const factory = bindMigrationAwareSqlAdapterFactory(adapterFactory(url, pool))
    return await work(await engine.SchemaEngine.new({ datamodels: [['schema.prisma', schema]] }, () => {}, factory))
  } finally {
    await pool.end()
  }
}
