// The connections to PostgreSQL.

import pg from 'pg'

const MARGIN = 1_000 // milliseconds that the server is given to cancel a statement and say so

/** A connection whose statement gets no answer at all is dead, whatever TCP may think of it: it is closed. */
class Connection extends pg.Client {
  #patience

  constructor(options) {
    super(options)
    this.#patience = options.statement_timeout + MARGIN
  }

  query(...args) {
    const silent = setTimeout(() => {
      this.emit('silent')
      this.connection.stream.destroy(new Error('Connection terminated: no answer'))
    }, this.#patience)
    return super.query(...args).finally(() => clearTimeout(silent))
  }
}

/**
 * pg's pool with two differences: a failed statement does not cost the connection (pg's own `query` closes it, also where
 * only a constraint was broken), and once a connection was found dead, those of its time are not trusted any more.
 */
class SteadyPool extends pg.Pool {
  #generation = 0
  #of = new WeakMap()
  lost = 0 // connections that ended, or were found dead, while nobody had asked for it

  constructor(options) {
    super({ ...options, Client: Connection })
    this.on('error', () => this.lost++)
    this.on('connect', (client) => {
      this.#of.set(client, this.#generation)
      client.once('silent', () => {
        this.lost++
        this.#generation++
      })
    })
  }

  async connect() {
    for (;;) {
      const client = await super.connect()
      if (this.#of.get(client) === this.#generation) return client
      client.connection.stream.destroy()
      client.release(true)
    }
  }

  async query(...args) {
    const client = await this.connect()
    let lost
    const onLost = (error) => (lost = error)
    client.on('error', onLost)
    try {
      return await client.query(...args)
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.severity !== 'ERROR') lost = error
      throw error
    } finally {
      client.removeListener('error', onLost)
      client.release(lost)
    }
  }
}

/**
 * Milliseconds: `connect` bounds the wait for a connection, `timeout` each statement. `owner` tells PostgreSQL whose the
 * connections are.
 */
export const createPool = ({ url, owner, pool, connect, timeout }) =>
  new SteadyPool({
    connectionString: url,
    max: pool,
    connectionTimeoutMillis: connect,
    statement_timeout: timeout,
    // What an engine that nobody hears of any more has locked, others wait for.
    idle_in_transaction_session_timeout: Math.max(2 * timeout, 10_000),
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    application_name: `strangler ${owner}`.trim(),
    // The driver adapter takes every timestamp for UTC; a settle's gate has to see what was decided while it waited.
    options: "-c TimeZone=UTC -c default_transaction_isolation=read\\ committed",
  })
