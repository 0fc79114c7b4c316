import { Router } from 'express';
import { sendSuccess } from '../web/answers.js';
import * as input from '../web/input.js';

export function jobRoutes(queue) {
  const router = Router();

  router.get('/', (req, res) => sendSuccess(res, queue.inspect()));

  router.post('/', async (req, res) => {
    const job = input.fields(req.body, { jobId: input.text, videoId: input.id, nftId: input.text });
    sendSuccess(res, await queue.withRoom(async (enqueue) => enqueue(job)), 'Job queued', 202);
  });

  return router;
}
