// Core's collections, through the native driver. It has always kept its own list of the people it has met, `users`; the
// accounts came later, with the other server, and both know a person by the wallet.
import { MongoClient } from 'mongodb';
import { MONGO_OPTIONS } from '../web/environment.js';

/** Connects to the database that the URL names, and makes its indexes. */
export async function connect(url) {
  const client = await new MongoClient(url, MONGO_OPTIONS).connect();
  const db = client.db();
  const accounts = db.collection('accounts');
  const profiles = db.collection('profiles');
  const users = db.collection('users');
  await accounts.createIndexes([
    { key: { walletAddress: 1 }, unique: true },
    { key: { createdAt: -1, _id: -1 } },
  ]);
  await users.createIndexes([{ key: { walletAddress: 1 }, unique: true }]);
  await profiles.createIndexes([
    { key: { username: 1 }, unique: true },
    { key: { accountId: 1, createdAt: -1, _id: -1 } },
    { key: { createdAt: -1, _id: -1 } },
  ]);
  const { setName } = await db.command({ hello: 1 });
  const together = setName === undefined ? alone : (work) => inTransaction(client, work);
  return { client, db, accounts, profiles, users, together, ping: () => db.command({ ping: 1 }) };
}

export const NEWEST_FIRST = { createdAt: -1, _id: -1 };

/** Inserts with both timestamps and returns the document as it is stored. */
export async function insert(collection, values) {
  const now = new Date();
  const document = { ...values, createdAt: now, updatedAt: now };
  const { insertedId } = await collection.insertOne(document);
  const { _id, ...rest } = document;
  return { _id: insertedId, ...rest };
}

/** Applies {$set, $unset} to one document and returns what it became, or null when there is none. */
export function update(collection, _id, { $set, $unset }, options = {}) {
  const change = { $set: { ...$set, updatedAt: new Date() } };
  if (Object.keys($unset).length > 0) change.$unset = $unset;
  return collection.findOneAndUpdate({ _id }, change, { returnDocument: 'after', ...options });
}

// A standalone server has no transactions.
const alone = (work) => work(undefined);
const inTransaction = (client, work) => client.withSession((session) => session.withTransaction(() => work(session)));
