// What crosses the socket: one JSON text a line. Requests carry what JSON has no word for as {"$type", "value"};
// replies are written here rather than by JSON.stringify, so that every value arrives as it left the database.

const NEWLINE = 0x0a

// PostgreSQL's text cannot hold NUL: a string that starts with one is the JSON text of a value, with two, of a raw result.
export const JSON_MARK = '\u0000'
export const TABLE_MARK = '\u0000\u0000'

/** Cuts a byte stream into lines. Chunks are kept as they came and joined once, when their line is complete. */
export function lines(limit, onLine) {
  let chunks = []
  let size = 0
  return (chunk) => {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const piece = chunk.subarray(start, end)
      start = end + 1
      if (size === 0) {
        onLine(piece.toString('utf8'))
        continue
      }
      chunks.push(piece)
      const line = Buffer.concat(chunks, size + piece.length).toString('utf8')
      chunks = []
      size = 0
      onLine(line)
    }
    if (start < chunk.length) {
      chunks.push(chunk.subarray(start))
      size += chunk.length - start
      if (size > limit) throw new RangeError(`a request is longer than ${limit} bytes`)
    }
  }
}

/** A Json argument by its text: the client hands it on without parsing it, so that no digit is lost. */
class JsonText {
  constructor(text) {
    this.text = text
  }

  toJSON() {
    return { $type: 'Json', value: this.text }
  }
}

// Parameters of raw queries that PostgreSQL reads best from their text.
const TEXTUAL = new Set(['Json', 'Decimal', 'BigInt'])

/** Turns the tagged values of a request into the client's own, in place, and a Json field's null into the database's. */
export function reviver(Prisma, models) {
  const tagged = {
    DateTime: (value) => new Date(value),
    BigInt: (value) => BigInt(value),
    Decimal: (value) => new Prisma.Decimal(value),
    Bytes: (value) => Buffer.from(value, 'base64'),
    Json: (value) => new JsonText(value),
  }

  function untag(object) {
    const revive = tagged[object.$type]
    if (revive === undefined) throw new TypeError(`an argument of unknown $type`)
    return revive(object.value)
  }

  // `model` is what the keys around belong to; words such as `where` and `create` leave it as it is.
  function revive(value, model, json) {
    if (value === null) return json ? Prisma.DbNull : null
    if (typeof value !== 'object') return value
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) value[i] = revive(value[i], model, false)
      return value
    }
    if (value.$type !== undefined) return untag(value)
    for (const key in value) {
      const field = model?.get(key)
      const relation = field?.kind === 'object'
      const isJson = field === undefined ? json : field.type === 'Json'
      value[key] = revive(value[key], relation ? models.get(field.type) : model, isJson)
    }
    return value
  }

  return {
    args: (value, model) => revive(value, models.get(model), false),
    parameters: (values) =>
      values.map(function parameter(value) {
        if (Array.isArray(value)) return value.map(parameter)
        if (value === null || typeof value !== 'object') return value
        return TEXTUAL.has(value.$type) ? value.value : untag(value)
      }),
  }
}

const keys = new Map()

function keyText(key) {
  let text = keys.get(key)
  if (text === undefined) {
    text = `${JSON.stringify(key)}:`
    if (keys.size < 10_000) keys.set(key, text)
  }
  return text
}

// What a fast JSON reader would round or refuse: integers beyond 64 bits, and numbers that are none.
const UNUSUAL = /\d{19}|NaN|Infinity/

/**
 * Writes results: BigInt as digits, Decimal and DateTime as strings, Bytes as base64, Json as it is stored.
 * A reply that starts with a space holds something that asks for a reader which takes integers of any size and NaN.
 */
export function writer(Prisma) {
  const { isDecimal } = Prisma.Decimal
  let unusual = false
  let asText = false

  function numberText(value) {
    if (Object.is(value, -0)) return '-0.0'
    if (!Number.isFinite(value)) unusual = true
    const digits = String(value)
    // A float beyond 2^53 prints as digits that are those of another integer.
    return Number.isInteger(value) && !Number.isSafeInteger(value) && !digits.includes('e') ? `${digits}.0` : digits
  }

  function jsonText(marked) {
    if (UNUSUAL.test(marked)) unusual = true
    if (marked.startsWith(TABLE_MARK)) return marked.slice(TABLE_MARK.length)
    const json = marked.slice(JSON_MARK.length)
    return asText ? JSON.stringify(json) : json
  }

  function listText(list) {
    let out = '['
    for (let i = 0; i < list.length; i++) out += (i ? ',' : '') + text(list[i])
    return `${out}]`
  }

  function objectText(object) {
    let out = ''
    for (const key in object) out += (out ? ',' : '{') + keyText(key) + text(object[key])
    return out ? `${out}}` : '{}'
  }

  function text(value) {
    switch (typeof value) {
      case 'string':
        return value.charCodeAt(0) === 0 ? jsonText(value) : JSON.stringify(value)
      case 'number':
        return numberText(value)
      case 'boolean':
      case 'bigint':
        return value.toString()
      case 'undefined':
        return 'null'
    }
    if (value === null) return 'null'
    if (Array.isArray(value)) return listText(value)
    if (value instanceof Date) return `"${value.toISOString()}"`
    if (ArrayBuffer.isView(value)) return `"${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')}"`
    return isDecimal(value) ? `"${value.toFixed()}"` : objectText(value)
  }

  return (id, result, jsonAsText) => {
    unusual = false
    asText = jsonAsText
    const body = text(result)
    return `${unusual ? ' ' : ''}{"id":${id},"result":${body}}\n`
  }
}
