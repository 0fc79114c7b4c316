// The connections to PostgreSQL.

import pg from 'pg'

/** pg's own `query` closes the connection under every failed statement; one that broke a constraint is as good as before. */
class SteadyPool extends pg.Pool {
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

/** `timeout` (milliseconds) bounds the wait for a connection and each statement. */
export function createPool({ url, pool, timeout }) {
  const made = new SteadyPool({
    connectionString: url,
    max: pool,
    connectionTimeoutMillis: timeout,
    statement_timeout: timeout,
    idle_in_transaction_session_timeout: 300_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    application_name: 'strangler',
    options: '-c TimeZone=UTC', // the driver adapter takes every timestamp for UTC
  })
  made.on('error', (error) => console.error(`strangler engine: an idle connection was lost: ${error.message}`))
  return made
}
