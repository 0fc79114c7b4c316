// Settings come from the environment; one that is missing or wrong ends the start with a line that names it.

export function setting(name, otherwise) {
  const value = process.env[name] || otherwise;
  if (value === undefined) fail(`${name} is not set`);
  return value;
}

export function numberSetting(name, otherwise) {
  const value = setting(name, otherwise === undefined ? undefined : String(otherwise));
  if (!/^\d+$/.test(value)) fail(`${name} must be a whole number`);
  return Number(value);
}

function fail(reason) {
  process.stderr.write(`${reason}\n`);
  process.exit(2);
}

/** What both servers give the MongoDB driver: nothing waits for a database that is away for longer than this. */
export const MONGO_OPTIONS = {
  maxPoolSize: 50,
  serverSelectionTimeoutMS: 3_000,
  connectTimeoutMS: 3_000,
  socketTimeoutMS: 15_000,
  waitQueueTimeoutMS: 5_000,
};
