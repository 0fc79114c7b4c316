import { randomUUID } from 'node:crypto';
import { Router } from 'express';
import { found, sendList, sendSuccess } from '../web/answers.js';
import * as input from '../web/input.js';
import { NEWEST_FIRST, update, Video, VIDEO_STATUSES } from './models.js';

const status = input.oneOf(VIDEO_STATUSES);
const urls = { videoUrl: input.string, thumbnailUrl: input.string };
const described = { title: input.string, description: input.string };
const withWallet = { path: 'account', select: 'walletAddress' };

export function videoRoutes(queue, authenticated) {
  const router = Router();
  const idOf = (req) => input.id(req.params.id);

  router.post('/generate', authenticated, async (req, res) => {
    const given = input.fields(req.body, { nftId: input.text }, described);
    const video = await queue.withRoom(async (enqueue) => {
      const created = await Video.create({ ...given, accountId: req.auth.account.id, jobId: `job-${randomUUID()}` });
      enqueue({ jobId: created.jobId, videoId: created.id, nftId: created.nftId });
      return created;
    });
    sendSuccess(res, await video.populate(withWallet), 'Video generation started');
  });

  // A video that was made elsewhere: its maker knows the job, and may already know how it ended.
  router.post('/', authenticated, async (req, res) => {
    const required = { nftId: input.text, jobId: input.text };
    const given = input.fields(req.body, required, { ...described, ...urls, status, isPublic: input.flag });
    sendSuccess(res, await Video.create({ ...given, accountId: req.auth.account.id }), 'Video created', 201);
  });

  router.get('/', authenticated, async (req, res) => {
    const where = { accountId: req.auth.account.id };
    const wanted = input.filter(req.query, 'status', status);
    if (wanted !== undefined) where.status = wanted;
    const videos = Video.find(where).sort(NEWEST_FIRST).limit(input.limit(req.query));
    sendList(res, await videos.populate(withWallet));
  });

  router.get('/public', async (req, res) => {
    sendList(res, await Video.find({ isPublic: true }).sort(NEWEST_FIRST).limit(input.limit(req.query)));
  });

  router.get('/:id', async (req, res) => {
    sendSuccess(res, found(await Video.findById(idOf(req)), 'Video'));
  });

  router.patch('/:id', async (req, res) => {
    const id = idOf(req);
    const change = input.changes(req.body, {
      title: input.clearable(input.string),
      description: input.clearable(input.string),
      isPublic: input.flag,
    });
    sendSuccess(res, found(await update(Video, id, change), 'Video'));
  });

  router.patch('/:id/status', async (req, res) => {
    const id = idOf(req);
    const change = input.fields(req.body, { status }, urls);
    sendSuccess(res, found(await update(Video, id, { $set: change }), 'Video'), 'Video status updated');
  });

  router.delete('/:id', async (req, res) => {
    sendSuccess(res, found(await Video.findByIdAndDelete(idOf(req)), 'Video'), 'Video deleted');
  });

  return router;
}
