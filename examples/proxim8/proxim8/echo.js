import { WebSocketServer } from 'ws';

const GOING_AWAY = 1001;
const GOODBYE_MS = 2_000;

/** A WebSocket at /ws that sends every message back as it came; returns what says goodbye to all of them. */
export function echo(server) {
  const sockets = new WebSocketServer({ server, path: '/ws', maxPayload: 1 << 20, closeTimeout: GOODBYE_MS });
  sockets.on('connection', (socket) => {
    socket.on('message', (message, binary) => socket.send(message, { binary }));
    socket.on('error', () => socket.terminate()); // a broken frame ends the one connection
  });
  return () => {
    for (const socket of sockets.clients) socket.close(GOING_AWAY);
  };
}
