// From a request to the Prisma Client's public methods.

import { markRaw, rawText } from './adapter.mjs'
import { Refused, describe } from './errors.mjs'
import { Transactions } from './transactions.mjs'
import { reviver, writer } from './wire.mjs'

const ACTIONS = new Set([
  'findUnique', 'findUniqueOrThrow', 'findFirst', 'findFirstOrThrow', 'findMany', 'count', 'aggregate', 'groupBy',
  'create', 'createMany', 'createManyAndReturn', 'update', 'updateMany', 'updateManyAndReturn', 'upsert', 'delete', 'deleteMany',
])

export class Calls {
  #client
  #pool
  #limit
  #revive
  #reply
  #accessors
  #counts = { calls: 0, errors: 0, refused: 0, inFlight: 0 }
  #onIdle = []
  transactions

  /** `models` is the client's runtime data model; `limit` bounds the calls in flight. */
  constructor({ client, Prisma, pool, limit, models }) {
    const byName = new Map(Object.entries(models).map(([name, m]) => [name, new Map(m.fields.map((f) => [f.name, f]))]))
    this.#client = client
    this.#pool = pool
    this.#limit = limit
    this.#revive = reviver(Prisma, byName)
    this.#reply = writer(Prisma)
    this.#accessors = new Map(Object.keys(models).map((name) => [name, name[0].toLowerCase() + name.slice(1)]))
    this.transactions = new Transactions(client)
  }

  /** When nothing is in flight. */
  async idle() {
    if (this.#counts.inFlight > 0) await new Promise((resolve) => this.#onIdle.push(resolve))
  }

  /** The reply to one request, as a line. Never rejects. */
  async answer(line, owner) {
    let id = null
    this.#counts.calls++
    this.#counts.inFlight++
    try {
      const request = JSON.parse(line)
      id = request.id ?? null
      if (this.#counts.inFlight > this.#limit && request.action !== 'rollback') {
        this.#counts.refused++
        throw new Refused('BUSY', `more than ${this.#limit} calls in flight`)
      }
      return this.#reply(id, await this.#run(request, owner), request.jsonText)
    } catch (error) {
      this.#counts.errors++
      return `{"id":${id},"error":${JSON.stringify(describe(error))}}\n`
    } finally {
      if (--this.#counts.inFlight === 0) for (const resolve of this.#onIdle.splice(0)) resolve()
    }
  }

  async #run({ model, action, args = {}, tx }, owner) {
    const client = tx && action !== 'commit' && action !== 'rollback' ? this.transactions.client(tx) : this.#client
    if (model || action === 'executeRaw') return this.#prepare(client, { model, action, args })
    switch (action) {
      case 'queryRaw':
        return rawText(await this.#prepare(client, { action, args }))
      case 'batch':
        return tx ? this.#inTransaction(client, args) : this.#batch(args)
      case 'begin':
        return this.transactions.begin(owner, args)
      case 'commit':
        return this.transactions.commit(tx)
      case 'rollback':
        return this.transactions.rollback(tx)
      case 'health':
        await this.#client.$queryRawUnsafe(markRaw('SELECT 1'))
        return true
      case 'metrics':
        return this.#metrics()
      default:
        throw new Refused('P2009', `unknown action ${JSON.stringify(action)}`, { kind: 'UnknownAction' })
    }
  }

  /** A call that has not started yet: the client starts it when it is awaited or put into a transaction. */
  #prepare(client, { model, action, args }) {
    if (!model) {
      const method = { queryRaw: '$queryRawUnsafe', executeRaw: '$executeRawUnsafe' }[action]
      if (!method) throw new Refused('P2009', `unknown raw action ${JSON.stringify(action)}`, { kind: 'UnknownAction' })
      return client[method](action === 'queryRaw' ? markRaw(args.sql) : args.sql, ...this.#revive.parameters(args.params))
    }
    const accessor = this.#accessors.get(model)
    if (!accessor) throw new Refused('P2009', `unknown model ${JSON.stringify(model)}`, { kind: 'UnknownModel' })
    if (!ACTIONS.has(action)) throw new Refused('P2009', `unknown action ${JSON.stringify(action)}`, { kind: 'UnknownAction' })
    return client[accessor][action](this.#revive.args(args, model))
  }

  async #batch({ calls, isolation, maxWait, timeout }) {
    const options = { ...(isolation && { isolationLevel: isolation }), ...(maxWait && { maxWait }), ...(timeout && { timeout }) }
    // Compiled as a batch, what raw statements carry would be written and read as JSON several times over.
    if (calls.some(({ model }) => !model)) return this.#client.$transaction((tx) => this.#inTransaction(tx, { calls }), options)
    const results = await this.#client.$transaction(calls.map((call) => this.#prepare(this.#client, call)), options)
    return readable(calls, results)
  }

  async #inTransaction(client, { calls }) {
    const results = []
    for (const call of calls) results.push(await this.#prepare(client, call))
    return readable(calls, results)
  }

  #metrics() {
    const { totalCount, idleCount, waitingCount, lost } = this.#pool
    return {
      ...this.#counts,
      transactions: this.transactions.size,
      pool: { size: this.#pool.options.max, total: totalCount, idle: idleCount, waiting: waitingCount, lost },
      memory: process.memoryUsage().rss,
      uptime: process.uptime(),
    }
  }
}

const readable = (calls, results) => results.map((result, i) => (calls[i].action === 'queryRaw' ? rawText(result) : result))
