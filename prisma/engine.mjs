// Serves Prisma Client on a Unix socket, to the process that started it: `node engine.mjs SOCKET`, and the settings in the
// environment. It says `ready` on standard output once it listens, and ends when its standard input does.

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { Calls } from './engine/calls.mjs'
import { exactAdapter } from './engine/adapter.mjs'
import { say } from './engine/events.mjs'
import { createPool } from './engine/pool.mjs'
import { StatementNames } from './engine/statements.mjs'
import { lines } from './engine/wire.mjs'

const settings = {
  socket: process.argv[2],
  url: process.env.DATABASE_URL,
  client: process.env.STRANGLER_CLIENT ?? path.join(import.meta.dirname, 'generated', 'client'),
  owner: process.env.STRANGLER_OWNER ?? '',
  pool: Number(process.env.STRANGLER_POOL ?? 10),
  connect: Number(process.env.STRANGLER_CONNECT_MS ?? 3_000),
  timeout: Number(process.env.STRANGLER_TIMEOUT_MS ?? 10_000),
  limit: Number(process.env.STRANGLER_IN_FLIGHT ?? 4096),
  line: Number(process.env.STRANGLER_LINE_BYTES ?? 64 * 2 ** 20),
  grace: Number(process.env.STRANGLER_GRACE_MS ?? 5_000),
}

async function createCalls() {
  const generated = await import(pathToFileURL(path.join(settings.client, 'index.js')).href)
  const { PrismaClient, Prisma } = generated.default ?? generated
  const pool = createPool(settings)
  // Behind PgBouncer a connection is another one each time; the URL says so as it does for Prisma.
  const names = /[?&]pgbouncer=true\b/.test(settings.url) ? undefined : new StatementNames()
  const client = new PrismaClient({ adapter: exactAdapter(pool, names), errorFormat: 'minimal' })
  return { client, calls: new Calls({ client, Prisma, pool, limit: settings.limit, models: client._runtimeDataModel.models }) }
}

/** Writes the replies of one turn of the event loop together. */
function replies(socket) {
  let pending = ''
  const flush = () => {
    const text = pending
    pending = ''
    if (socket.writable) socket.write(text)
  }
  return (line) => {
    if (pending === '') setImmediate(flush)
    pending += line
  }
}

function serve(calls, connections) {
  return net.createServer((socket) => {
    const owner = { closed: false }
    const reply = replies(socket)
    const receive = lines(settings.line, (line) => calls.answer(line, owner).then(reply))
    connections.add(socket)
    socket.on('data', (chunk) => {
      try {
        receive(chunk)
      } catch (error) {
        socket.destroy(error)
      }
    })
    socket.on('error', (error) => say('warning', 'engine_connection_failed', { reason: error.message }))
    socket.on('close', () => {
      owner.closed = true
      connections.delete(socket)
      calls.transactions.abandon(owner)
    })
  })
}

/** A socket that a dead engine left behind is removed; one that answers is not ours to take. */
async function claim(socketPath) {
  if (!fs.existsSync(socketPath)) return
  const alive = await new Promise((resolve) => {
    const probe = net.connect(socketPath, () => resolve(true))
    probe.on('error', () => resolve(false)).on('connect', () => probe.destroy())
  })
  if (alive) throw new Error('another engine answers on this socket')
  fs.unlinkSync(socketPath)
}

async function main() {
  const { client, calls } = await createCalls()
  const connections = new Set()
  const server = serve(calls, connections)
  await claim(settings.socket)
  process.umask(0o077)
  await new Promise((resolve, reject) => server.once('error', reject).listen(settings.socket, resolve))

  let ending = false
  async function end() {
    if (ending) return
    ending = true
    setTimeout(() => process.exit(1), settings.grace)
    server.close()
    // Calls may wait for a connection that an open transaction holds, so what is abandoned ends first.
    await calls.transactions.abandon()
    await calls.idle()
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve))) // the last replies are written meanwhile
    await Promise.all([...connections].map((socket) => new Promise((resolve) => socket.end(resolve))))
    await client.$disconnect()
    process.exit(0)
  }
  process.on('SIGTERM', end)
  process.on('SIGINT', () => {}) // a terminal sends it to the whole group; the parent decides
  process.stdin.on('end', end).on('error', end).resume()
  process.stdout.on('error', end)
  process.stdout.write('ready\n')
}

function fail(error) {
  say('error', 'engine_failed', { reason: error.message })
  process.exit(1)
}

process.removeAllListeners('warning').on('warning', ({ message }) => say('warning', 'engine_warning', { reason: message }))
process.on('uncaughtException', fail)
main().catch(fail)
