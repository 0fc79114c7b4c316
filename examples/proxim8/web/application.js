// The Express application that both servers are: a health route, their own routes, and errors in the envelope.
import express from 'express';
import { asApiError, notFound, sendError, sendSuccess } from './answers.js';
import { log } from './log.js';

/**
 * @param {object} parts
 * @param {() => Promise<unknown>} parts.ping rejects when the database is away
 * @param {Record<string, express.Router>} parts.routers by path
 * @param {Record<string, express.Router>} [parts.streaming] routers that read their request's body themselves
 */
export function application({ ping, routers, streaming = {} }) {
  const app = express();
  app.disable('x-powered-by');
  mount(app, streaming);
  app.use(express.json({ limit: '1mb' }));
  app.get('/health', async (req, res) => {
    await ping();
    sendSuccess(res, { status: 'ok' });
  });
  mount(app, routers);
  app.use(() => {
    throw notFound('Endpoint');
  });
  app.use((error, req, res, next) => {
    if (req.destroyed && !req.complete) return; // the client left: there is nobody to tell, and nothing of ours to mend
    if (asApiError(error).status >= 500) log('error', { method: req.method, route: routeOf(req, res), ...describe(error) });
    if (res.headersSent) next(error); // half an answer is out: Express cuts the connection
    else sendError(res, error);
  });
  return app;
}

function mount(app, routers) {
  for (const [path, router] of Object.entries(routers)) {
    app.use(path, (req, res, next) => {
      res.locals.mount = path;
      next();
    }, router);
  }
}

// The pattern, not the path, and no message: those may hold a wallet address.
const routeOf = (req, res) => (req.route ? (res.locals.mount ?? '') + req.route.path : 'none');

const describe = (error) => ({
  name: error?.name,
  code: error?.code,
  stack: String(error?.stack).split('\n').filter((line) => line.startsWith('    at ')).slice(0, 5),
});
