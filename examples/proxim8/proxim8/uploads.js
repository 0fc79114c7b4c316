// Media in and out, streamed: nothing here holds a whole file in memory on a client's behalf.
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Router } from 'express';
import { notFound, sendSuccess } from '../web/answers.js';

const SAMPLE_BYTES = 1 << 20;
const PATTERN = 251; // prime, so that a shifted range never looks like the right one

/** Makes a folder with `sample.bin` in it: 1 MiB, where byte n is n modulo 251. */
export async function mediaFolder() {
  const folder = await mkdtemp(join(tmpdir(), 'proxim8-media-'));
  await writeFile(join(folder, 'sample.bin'), Uint8Array.from({ length: SAMPLE_BYTES }, (_, n) => n % PATTERN));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

export function uploadRoutes(folder) {
  const router = Router();

  router.post('/', async (req, res) => {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const chunk of req) {
      hash.update(chunk);
      bytes += chunk.length;
    }
    sendSuccess(res, { bytes, sha256: hash.digest('hex') }, 'Upload received', 201);
  });

  router.get('/:name', (req, res, next) => {
    res.sendFile(req.params.name, { root: folder }, (error) => {
      if (error === undefined || req.destroyed) return; // sent, or the client left
      next(error.status === 404 || error.status === 403 ? notFound('File') : error);
    });
  });

  return router;
}
