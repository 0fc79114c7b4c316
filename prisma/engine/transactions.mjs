// Interactive transactions, held open between the calls of a client that may vanish: each one ends by a commit, a
// rollback, its timeout or the loss of its connection, whichever comes first.

import { randomUUID } from 'node:crypto'
import { Refused } from './errors.mjs'

const REMEMBERED = 1000 // how many ended transactions can still be told why they ended
const ABANDONED = Symbol('rolled back')

export class Transactions {
  #client
  #open = new Map() // id -> {owner, tx, end, done}
  #ended = new Map() // id -> why

  constructor(client) {
    this.#client = client
  }

  get size() {
    return this.#open.size
  }

  /** Starts one and answers its id, once the database has said BEGIN. */
  begin(owner, { maxWait = 2000, timeout = 5000, isolation } = {}) {
    const id = randomUUID()
    return new Promise((resolve, reject) => {
      const held = { owner }
      held.done = this.#client
        .$transaction(
          (tx) =>
            new Promise((commit, rollback) => {
              const timer = setTimeout(() => this.#end(id, 'expired', () => rollback(ABANDONED)), timeout)
              const end = (settle) => {
                clearTimeout(timer)
                settle()
              }
              Object.assign(held, { tx, commit: () => end(commit), rollback: () => end(() => rollback(ABANDONED)) })
              this.#open.set(id, held)
              if (owner.closed) this.#end(id, 'abandoned', held.rollback)
              resolve(id)
            }),
          // Prisma's own timer is only the second line: it would not let go of what is held here.
          { maxWait, timeout: timeout + 1000, ...(isolation && { isolationLevel: isolation }) },
        )
        .then(
          () => undefined,
          (error) => {
            if (error !== ABANDONED) {
              reject(error)
              throw error
            }
          },
        )
      held.done.catch(() => {}) // told to whoever commits, or by `reject` above
    })
  }

  /** The client that runs its calls inside the transaction. */
  client(id) {
    return this.#get(id).tx
  }

  async commit(id) {
    const held = this.#get(id)
    this.#end(id, 'committed', held.commit)
    await held.done
  }

  async rollback(id) {
    const held = this.#get(id)
    this.#end(id, 'rolled back', held.rollback)
    await held.done
  }

  /** Rolls back what a connection that is gone, or every one, has left open. */
  async abandon(owner) {
    const left = [...this.#open].filter(([, held]) => owner === undefined || held.owner === owner)
    for (const [id, held] of left) this.#end(id, 'abandoned', held.rollback)
    await Promise.allSettled(left.map(([, held]) => held.done))
  }

  #get(id) {
    const held = this.#open.get(id)
    if (held) return held
    const why = this.#ended.get(id) ?? 'unknown'
    throw new Refused('P2028', `Transaction already closed: it is ${why}`, { reason: why })
  }

  #end(id, why, settle) {
    this.#open.delete(id)
    this.#ended.set(id, why)
    if (this.#ended.size > REMEMBERED) this.#ended.delete(this.#ended.keys().next().value)
    settle()
  }
}
