// The envelope that every Proxim8 endpoint answers with.

/** A failure that the client is told about: its HTTP status, one sentence, and for bad input the field and the reason. */
export class ApiError extends Error {
  constructor(status, message, { field, reason } = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.field = field;
    this.reason = reason;
  }
}

export const notFound = (what) => new ApiError(404, `${what} not found`);

export const invalid = (field, reason) => new ApiError(400, `Invalid ${field}`, { field, reason });

/** Returns the document, or answers 404 when there is none. */
export function found(document, what) {
  if (document === null) throw notFound(what);
  return document;
}

export function sendSuccess(res, data, message, status = 200) {
  res.status(status).json({ success: true, data, message });
}

/** A list, with what belongs beside it: `pagination`, `unreadCount`. */
export function sendList(res, data, beside = {}) {
  res.json({ success: true, data, ...beside });
}

export function sendError(res, error) {
  const { status, message, field, reason } = asApiError(error);
  if (status === 503) res.set('Retry-After', '1');
  res.status(status).json({ success: false, error: message, field, reason });
}

const BODY_ERRORS = { 'entity.parse.failed': 'Malformed JSON', 'entity.too.large': 'Body too large' };

const UNREACHABLE = new Set([
  'MongoNetworkError',
  'MongoNetworkTimeoutError',
  'MongoServerSelectionError',
  'MongoWaitQueueTimeoutError',
  'MongoNotConnectedError',
  'MongoPoolClearedError',
  // The driver passes on what a socket says when it breaks under a write.
  'EPIPE',
  'ECONNRESET',
  'ECONNREFUSED',
  // The server's own words for "stopping" and "not the primary (any more)".
  91, 189, 10107, 11600, 11602, 13435, 13436,
]);

/** The answer to any error; what nobody foresaw is a 500 that gives nothing away. */
export function asApiError(error) {
  if (error instanceof ApiError) return error;
  if (isDuplicateKey(error)) return duplicate(Object.keys(error.keyPattern ?? {})[0]);
  if (UNREACHABLE.has(error?.name) || UNREACHABLE.has(error?.code)) {
    return new ApiError(503, 'Database unavailable');
  }
  // Errors of Express and its parsers: a body that is no JSON, a path that is no UTF-8.
  if (error?.status >= 400 && error.status < 500) {
    return new ApiError(error.status, BODY_ERRORS[error.type] ?? 'Bad request');
  }
  return new ApiError(500, 'Internal server error');
}

export const isDuplicateKey = (error) => error?.code === 11000;

const duplicate = (field) => new ApiError(409, `${field} already exists`, { field, reason: 'must be unique' });
