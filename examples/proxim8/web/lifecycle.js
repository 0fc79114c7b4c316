// A server's life: listen, say so, and on SIGTERM or SIGINT finish what is in flight before leaving.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { log } from './log.js';

const SHUTDOWN_MS = 10_000;
const IDLE_CHECK_MS = 20;

/**
 * Listens on 127.0.0.1 and logs `listening` with the port (0 asks for any free one).
 * On a signal it runs `beforeStop`, stops listening, waits for requests in flight, runs `afterStop` and exits with 0,
 * or with 1 when that takes longer than ten seconds.
 */
export async function serve(app, { service, port, beforeStop = async () => {}, afterStop }) {
  const server = createServer(app);
  server.keepAliveTimeout = 65_000; // longer than any balancer's in front of us, so that it is never we who close first
  server.headersTimeout = 66_000;
  server.requestTimeout = 0; // uploads take as long as they take
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  log('listening', { service, port: server.address().port });

  let stopping = false;
  const stop = async (signal) => {
    if (stopping) return;
    stopping = true;
    log('stopping', { service, signal });
    setTimeout(() => leave(service, 1), SHUTDOWN_MS).unref();
    await beforeStop();
    await closed(server);
    await afterStop();
    leave(service, 0);
  };
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => stop(signal).catch((error) => {
      log('stop failed', { service, name: error.name });
      leave(service, 1);
    }));
  }
  return server;
}

async function closed(server) {
  const close = once(server, 'close');
  server.close();
  // A kept-alive connection turns idle only when its last answer is out, which `close` does not wait for.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  await close;
  clearInterval(idle);
}

function leave(service, status) {
  log('stopped', { service, status });
  process.exit(status);
}
