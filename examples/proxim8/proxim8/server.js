// Proxim8: videos, notifications and NFT ownership, on Mongoose.
import { application } from '../web/application.js';
import { validateAccountExists } from '../web/auth.js';
import { numberSetting, setting } from '../web/environment.js';
import { serve } from '../web/lifecycle.js';
import { log } from '../web/log.js';
import { echo } from './echo.js';
import { jobRoutes } from './jobs.js';
import { connect, disconnect, ping, walletAccounts } from './models.js';
import { nftRoutes } from './nfts.js';
import { notificationRoutes } from './notifications.js';
import { JobQueue } from './queue.js';
import { statsRoutes } from './stats.js';
import { mediaFolder, uploadRoutes } from './uploads.js';
import { videoRoutes } from './videos.js';
import { worker } from './worker.js';

const port = numberSetting('PORT');
const authenticated = validateAccountExists(setting('JWT_SECRET'), walletAccounts);
await connect(setting('MONGO_URL'));
const media = await mediaFolder();

const stopping = new AbortController();
const ownUrl = () => `http://127.0.0.1:${server.address().port}`;
const queue = new JobQueue(
  worker({
    apiUrl: () => process.env.PUBLIC_URL || ownUrl(),
    delayMs: numberSetting('JOB_DELAY_MS', 150),
    stopping: stopping.signal,
  }),
  { capacity: numberSetting('JOB_CAPACITY', 200), concurrency: numberSetting('JOB_CONCURRENCY', 8) },
);

const app = application({
  ping,
  streaming: { '/api/uploads': uploadRoutes(media.folder) },
  routers: {
    '/api/videos': videoRoutes(queue, authenticated),
    '/api/notifications': notificationRoutes(authenticated),
    '/api/nfts': nftRoutes(),
    '/api/jobs': jobRoutes(queue),
    '/api/stats': statsRoutes(),
  },
});

const server = await serve(app, {
  service: 'proxim8',
  port,
  // Jobs end through the API, so the queue empties while the server still listens.
  beforeStop: async () => {
    stopping.abort();
    const lost = await queue.close();
    if (lost > 0) log('jobs lost', { count: lost });
    sayGoodbye();
  },
  afterStop: () => Promise.all([disconnect(), media.remove()]),
});
const sayGoodbye = echo(server);
