import { Router } from 'express';
import { ObjectId } from 'mongodb';
import { found, sendList, sendSuccess } from '../web/answers.js';
import * as input from '../web/input.js';
import { insert, NEWEST_FIRST, update } from './database.js';

export function profileRoutes({ profiles }, authenticated) {
  const router = Router();
  const idOf = (req) => new ObjectId(input.id(req.params.id));

  router.post('/', authenticated, async (req, res) => {
    const given = input.fields(req.body, { username: input.text }, { bio: input.string, avatar: input.string });
    const profile = await insert(profiles, { accountId: req.auth.account.id, ...given });
    sendSuccess(res, profile, 'Profile created', 201);
  });

  router.get('/', async (req, res) => {
    const accountId = input.filter(req.query, 'accountId', input.id);
    const limit = input.limit(req.query);
    const where = accountId === undefined ? {} : { accountId: new ObjectId(accountId) };
    sendList(res, await profiles.find(where).sort(NEWEST_FIRST).limit(limit).toArray());
  });

  router.get('/:id', async (req, res) => {
    sendSuccess(res, found(await profiles.findOne({ _id: idOf(req) }), 'Profile'));
  });

  router.patch('/:id', async (req, res) => {
    const _id = idOf(req);
    const change = input.changes(req.body, {
      username: input.text,
      bio: input.clearable(input.string),
      avatar: input.clearable(input.string),
    });
    sendSuccess(res, found(await update(profiles, _id, change), 'Profile'));
  });

  router.delete('/:id', async (req, res) => {
    sendSuccess(res, found(await profiles.findOneAndDelete({ _id: idOf(req) }), 'Profile'), 'Profile deleted');
  });

  return router;
}
