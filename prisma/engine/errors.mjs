// What a failed call says: a code, what it is about, and a message that names fields rather than values.

export class Refused extends Error {
  constructor(code, message, meta) {
    super(message)
    this.code = code
    this.meta = meta
  }
}

/** P2024 is what Prisma calls it when no connection comes free in time. */
export class PoolTimeout extends Error {
  code = 'P2024'
  constructor() {
    super('Timed out fetching a new connection from the connection pool')
  }
}

const VALIDATION_KINDS = [
  [/^Argument `.*` is missing/, 'RequiredArgumentMissing'],
  [/^Unknown argument/, 'UnknownArgument'],
  [/^Unknown field .* for select/, 'UnknownSelectionField'],
  [/^Unknown field/, 'UnknownInputField'],
]

/** {code, message, meta} of anything that a call threw. */
export function describe(error) {
  switch (error.name) {
    case 'PrismaClientValidationError':
      return validation(error)
    case 'PrismaClientInitializationError':
      return { code: error.errorCode ?? 'P1001', message: error.message, meta: {} }
  }
  const cause = driverCause(error)
  const { driverAdapterError: _, ...meta } = error.meta ?? {}
  if (cause) Object.assign(meta, causeMeta(cause))
  return { code: error.code ?? null, message: lastParagraph(error.message), meta }
}

function driverCause(error) {
  return error.meta?.driverAdapterError?.cause ?? (error.name === 'DriverAdapterError' ? error.cause : undefined)
}

function causeMeta(cause) {
  return {
    kind: cause.kind,
    sqlstate: cause.originalCode,
    databaseMessage: cause.originalMessage,
    constraint: cause.constraint?.index,
    target: cause.constraint?.fields,
    table: cause.table,
    column: cause.column,
  }
}

function validation(error) {
  const message = lastParagraph(error.message)
  const kind = VALIDATION_KINDS.find(([pattern]) => pattern.test(message))?.[1] ?? 'InvalidArgument'
  return { code: kind === 'RequiredArgumentMissing' ? 'P2012' : 'P2009', message, meta: { kind } }
}

/** The client puts the call, with its values, before what it has to say. */
function lastParagraph(message) {
  const paragraphs = message.trim().split(/\n\s*\n/)
  return paragraphs[paragraphs.length - 1].trim()
}
