// Names for prepared statements: one a text, so that each connection parses and plans it once.

const MOST = 500 // texts beyond these (lists of ever new lengths make ever new ones) are planned each time

export class StatementNames {
  #names = new Map()
  #generation = 0

  of = ({ sql }) => {
    let name = this.#names.get(sql)
    if (name === undefined && this.#names.size < MOST) {
      name = `s${this.#generation}_${this.#names.size}`
      this.#names.set(sql, name)
    }
    return name
  }

  /** Leaves every plan made so far behind, on whichever connection. */
  forget() {
    this.#generation++
    this.#names.clear()
  }
}
