// What the engine says on standard error: one JSON text a line, as the events of the process that started it.

export function say(level, event, fields) {
  process.stderr.write(`${JSON.stringify({ ...fields, event, level, timestamp: new Date().toISOString() })}\n`)
}
