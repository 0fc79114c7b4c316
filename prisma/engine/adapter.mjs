// The official PostgreSQL driver adapter, with two things added: Json columns reach the caller as the text that is stored
// (parsing it here would round integers beyond 2^53), and a raw query's result keeps its column types.

import { ColumnTypeEnum, DriverAdapterError } from '@prisma/driver-adapter-utils'
import { PrismaPg } from '@prisma/adapter-pg'
import { JSON_MARK, TABLE_MARK } from './wire.mjs'
import { PoolTimeout } from './errors.mjs'

const RAW_MARK = '\n--strangler:raw' // taken off again before the statement is sent

export const markRaw = (sql) => sql + RAW_MARK

/** The text that a marked raw query's result was written as, ready to be sent. */
export const rawText = (rows) => rows[0].text

/** `names`, where given, lets PostgreSQL keep the plan of a statement that it has seen on a connection. */
export function exactAdapter(pool, names) {
  const factory = new PrismaPg(pool, { statementNameGenerator: names?.of, disposeExternalPool: true })
  const inTransaction = async (adapter, isolation) =>
    exactQueryable(await guarded(() => adapter.startTransaction(isolation)), (io) => guarded(() => fresh(names, io, false)), {})
  return {
    provider: factory.provider,
    adapterName: factory.adapterName,
    connect: async () =>
      exactQueryable(await factory.connect(), (io) => guarded(() => fresh(names, io, true)), { startTransaction: inTransaction }),
  }
}

function exactQueryable(inner, run, extra) {
  const outer = Object.create(inner, {
    queryRaw: {
      value: async (query) => {
        const raw = query.sql.endsWith(RAW_MARK)
        const sent = raw ? { ...query, sql: query.sql.slice(0, -RAW_MARK.length) } : query
        const result = await run(() => inner.queryRaw(sent))
        return raw ? typedResult(result) : exactJson(result)
      },
    },
    executeRaw: { value: (query) => run(() => inner.executeRaw(query)) },
  })
  for (const [name, method] of Object.entries(extra)) {
    Object.defineProperty(outer, name, { value: (...args) => method(inner, ...args) })
  }
  return outer
}

/** A plan that a change of the tables made stale is made again, or where its transaction is lost, may be by a retry. */
async function fresh(names, io, again) {
  try {
    return await io()
  } catch (error) {
    const { originalCode, originalMessage } = error.cause ?? {}
    if (originalCode !== '0A000' || !originalMessage.includes('cached plan')) throw error
    names.forget()
    if (again) return io()
    throw new DriverAdapterError({ kind: 'TransactionWriteConflict', originalCode, originalMessage })
  }
}

// pg's words for: none of the pool came free; and for one that could not be made, by the pool's clock or by its own.
const NO_CONNECTION = new Set([
  'timeout exceeded when trying to connect',
  'Connection terminated due to connection timeout',
  'timeout expired',
])
const UNREACHABLE = new Set(['ENOENT', 'EACCES', 'EPIPE', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN'])
const CONNECTING = new Set(['connect', 'getaddrinfo'])

/** Gives a name to the failures to reach the database that the driver adapter passes on as they are. */
async function guarded(io) {
  try {
    return await io()
  } catch (error) {
    if (error instanceof DriverAdapterError) throw error
    if (NO_CONNECTION.has(error.message)) throw new PoolTimeout()
    if (UNREACHABLE.has(error.code)) {
      // On a connection that was there, a statement may have gone out before.
      const kind = CONNECTING.has(error.syscall) ? 'DatabaseNotReachable' : 'ConnectionClosed'
      throw new DriverAdapterError({ kind, host: error.address })
    }
    if (/^Connection terminated|^Client has encountered a connection error/.test(error.message)) {
      throw new DriverAdapterError({ kind: 'ConnectionClosed' })
    }
    throw error
  }
}

const marked = (text) => (text === null ? null : JSON.stringify(JSON_MARK + text))

function exactJson(result) {
  result.columnTypes.forEach((type, column) => {
    if (type === ColumnTypeEnum.Json) {
      for (const row of result.rows) row[column] = marked(row[column])
    } else if (type === ColumnTypeEnum.JsonArray) {
      for (const row of result.rows) row[column] = row[column]?.map(marked) ?? null
    }
  })
  return result
}

const TYPE_NAMES = {
  [ColumnTypeEnum.Int32]: 'int',
  [ColumnTypeEnum.Int64]: 'bigint',
  [ColumnTypeEnum.Float]: 'float',
  [ColumnTypeEnum.Double]: 'double',
  [ColumnTypeEnum.Numeric]: 'decimal',
  [ColumnTypeEnum.Boolean]: 'bool',
  [ColumnTypeEnum.Character]: 'char',
  [ColumnTypeEnum.Text]: 'string',
  [ColumnTypeEnum.Date]: 'date',
  [ColumnTypeEnum.Time]: 'time',
  [ColumnTypeEnum.DateTime]: 'datetime',
  [ColumnTypeEnum.Json]: 'json',
  [ColumnTypeEnum.Bytes]: 'bytes',
  [ColumnTypeEnum.Uuid]: 'uuid',
  [ColumnTypeEnum.Int32Array]: 'int-array',
  [ColumnTypeEnum.Int64Array]: 'bigint-array',
  [ColumnTypeEnum.FloatArray]: 'float-array',
  [ColumnTypeEnum.DoubleArray]: 'double-array',
  [ColumnTypeEnum.NumericArray]: 'decimal-array',
  [ColumnTypeEnum.BooleanArray]: 'bool-array',
  [ColumnTypeEnum.CharacterArray]: 'char-array',
  [ColumnTypeEnum.TextArray]: 'string-array',
  [ColumnTypeEnum.DateArray]: 'date-array',
  [ColumnTypeEnum.TimeArray]: 'time-array',
  [ColumnTypeEnum.DateTimeArray]: 'datetime-array',
  [ColumnTypeEnum.JsonArray]: 'json-array',
  [ColumnTypeEnum.BytesArray]: 'bytes-array',
  [ColumnTypeEnum.UuidArray]: 'uuid-array',
}

/** The whole result as one text value: {columns, types, rows}. */
function typedResult({ columnNames, columnTypes, rows }) {
  const types = columnTypes.map((type) => TYPE_NAMES[type] ?? 'unknown')
  const body = rows.map((row) => `[${row.map((value, i) => cellText(value, types[i])).join(',')}]`).join(',')
  const text = `${TABLE_MARK}{"columns":${JSON.stringify(columnNames)},"types":${JSON.stringify(types)},"rows":[${body}]}`
  return { columnNames: ['text'], columnTypes: [ColumnTypeEnum.Text], rows: [[text]] }
}

function cellText(value, type) {
  if (value === null || value === undefined) return 'null'
  if (Array.isArray(value)) return `[${value.map((item) => cellText(item, type.replace('-array', ''))).join(',')}]`
  switch (type) {
    case 'json':
      return value
    case 'bigint':
      return `"${value}"`
    case 'float':
    case 'double':
      return Object.is(Number(value), -0) ? '-0.0' : String(value)
    case 'bytes':
      return `"${Buffer.from(value).toString('base64')}"`
    default:
      return JSON.stringify(value)
  }
}
