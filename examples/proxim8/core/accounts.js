import { Router } from 'express';
import { ObjectId } from 'mongodb';
import { ApiError, found, sendList, sendSuccess } from '../web/answers.js';
import * as input from '../web/input.js';
import { insert, NEWEST_FIRST, update } from './database.js';

/** What the wallet middleware needs of the accounts. */
export const walletAccounts = (database) => ({
  find: async (walletAddress) =>
    (await database.accounts.findOne({ walletAddress }, { projection: { _id: 1 } }))?._id ?? null,
  insert: async (walletAddress) => (await create(database, { walletAddress }))._id,
});

export function accountRoutes(database, authenticated) {
  const { accounts, profiles, users, together } = database;
  const router = Router();
  const idOf = (req) => new ObjectId(input.id(req.params.id));

  router.post('/', async (req, res) => {
    const account = await create(database, input.fields(req.body, { walletAddress: input.text }));
    sendSuccess(res, account, 'Account created', 201);
  });

  router.get('/', async (req, res) => {
    const page = input.page(req.query);
    const limit = input.limit(req.query);
    const [data, total] = await Promise.all([
      accounts.find().sort(NEWEST_FIRST).skip((page - 1) * limit).limit(limit).toArray(),
      accounts.countDocuments(),
    ]);
    sendList(res, data, { pagination: { page, limit, total } });
  });

  router.get('/me', authenticated, async (req, res) => {
    const { id } = req.auth.account;
    const [account, own] = await Promise.all([
      accounts.findOne({ _id: id }),
      profiles.find({ accountId: id }).sort(NEWEST_FIRST).toArray(),
    ]);
    sendSuccess(res, { ...found(account, 'Account'), profiles: own });
  });

  router.get('/wallet/:walletAddress', async (req, res) => {
    const { walletAddress } = req.params;
    sendSuccess(res, found(await accounts.findOne({ walletAddress }), 'Account'));
  });

  router.get('/:id', async (req, res) => {
    sendSuccess(res, found(await accounts.findOne({ _id: idOf(req) }), 'Account'));
  });

  router.patch('/:id', async (req, res) => {
    const _id = idOf(req);
    const $set = input.fields(req.body, { walletAddress: input.text });
    const account = await together(async (session) => {
      const before = await accounts.findOne({ _id }, { session });
      const after = before && (await update(accounts, _id, { $set, $unset: {} }, { session }));
      if (after) await rename(users, before.walletAddress, after, session);
      return after;
    });
    sendSuccess(res, found(account, 'Account'));
  });

  router.delete('/:id', async (req, res) => {
    const _id = idOf(req);
    await refuseWhileInUse(database, _id);
    const account = found(await accounts.findOne({ _id }), 'Account');
    await users.deleteOne({ walletAddress: account.walletAddress });
    sendSuccess(res, found(await accounts.findOneAndDelete({ _id }), 'Account'), 'Account deleted');
  });

  return router;
}

// Core has met this person: the user is older than, or as old as, the account.
async function create({ accounts, users }, values) {
  const account = await insert(accounts, values);
  const { walletAddress, createdAt, updatedAt } = account;
  const met = { createdAt, updatedAt, metBy: 'core' };
  await users.updateOne({ walletAddress }, { $setOnInsert: met }, { upsert: true });
  return account;
}

const rename = (users, walletAddress, { walletAddress: renamed, updatedAt }, session) =>
  users.updateOne({ walletAddress }, { $set: { walletAddress: renamed, updatedAt } }, { session });

// Mongo has no foreign keys. Both servers share the database, so this looks at what refers to an account in either.
async function refuseWhileInUse({ db }, accountId) {
  for (const name of ['profiles', 'videos', 'notifications']) {
    const reference = await db.collection(name).findOne({ accountId }, { projection: { _id: 1 } });
    if (reference) throw new ApiError(409, 'Account is in use', { field: 'id', reason: `still has ${name}` });
  }
}
