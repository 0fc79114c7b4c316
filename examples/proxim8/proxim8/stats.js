import { Router } from 'express';
import { sendSuccess } from '../web/answers.js';
import { Notification, NftOwnership, Video, VIDEO_STATUSES } from './models.js';

export function statsRoutes() {
  const router = Router();

  router.get('/', async (req, res) => {
    const [byStatus, notifications, nfts] = await Promise.all([
      Promise.all(VIDEO_STATUSES.map((status) => Video.countDocuments({ status }))),
      Notification.countDocuments(),
      NftOwnership.countDocuments(),
    ]);
    const videos = Object.fromEntries(VIDEO_STATUSES.map((status, at) => [status, byStatus[at]]));
    sendSuccess(res, { videos, notifications, nfts });
  });

  return router;
}
