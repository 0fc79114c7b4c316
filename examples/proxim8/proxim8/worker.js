// What a video job does, as the rendering farm does it in production: from outside, through the public API.
import { setTimeout as delay } from 'node:timers/promises';
import { log } from '../web/log.js';

const ATTEMPTS = 8;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 5_000;
const CALL_MS = 15_000;
const FAILS_EVERY = 10;

/** The API refused for good: the video is gone, or was never there. */
class Refused extends Error {}

/**
 * A worker for JobQueue. `apiUrl()` is where the API is; a job takes `delayMs`, give or take half.
 * Every tenth video fails. A call that got no answer, or a 5xx, is made again with backoff; as its answer may have been
 * lost on the way, a notification can come twice: clients of the notifications know that.
 * Once `stopping` is aborted jobs take no time and calls are not made again.
 */
export function worker({ apiUrl, delayMs, stopping }) {
  let taken = 0;

  return async (job, { retried }) => {
    taken += 1;
    const fails = taken % FAILS_EVERY === 0;
    const call = (method, path, body) => callWithRetries(new URL(path, apiUrl()), method, body, { retried, stopping });
    try {
      await pause(delayMs * (0.5 + Math.random()), stopping);
      await call('PATCH', `/api/videos/${job.videoId}/status`, { status: 'PROCESSING' });
      const { data: video } = await call('PATCH', `/api/videos/${job.videoId}/status`, outcome(job, fails));
      await call('POST', '/api/notifications', notificationOf(video, job, fails));
      return fails ? 'failed' : 'done';
    } catch (error) {
      log('job dropped', { jobId: job.jobId, reason: error.message });
      return 'dropped';
    }
  };
}

function outcome({ jobId }, fails) {
  if (fails) return { status: 'FAILED' };
  const at = `https://media.proxim8.example/${jobId}`;
  return { status: 'COMPLETED', videoUrl: `${at}/video.mp4`, thumbnailUrl: `${at}/thumbnail.jpg` };
}

const notificationOf = (video, { jobId, videoId, nftId }, fails) => ({
  accountId: video.accountId,
  type: fails ? 'VIDEO_FAILED' : 'VIDEO_COMPLETED',
  title: fails ? 'Video failed' : 'Video ready',
  message: fails ? `The video of NFT ${nftId} could not be made` : `The video of NFT ${nftId} is ready`,
  data: { videoId, jobId, nftId },
});

/** Resolves after `ms`, or as soon as `signal` is aborted. */
async function pause(ms, signal) {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
  }
}

async function callWithRetries(url, method, body, { retried, stopping }) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call(url, method, body);
    } catch (error) {
      if (error instanceof Refused || attempt === ATTEMPTS || stopping.aborted) throw error;
      retried();
      const longest = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** attempt);
      await pause(longest * (0.5 + Math.random() / 2), stopping);
    }
  }
}

async function call(url, method, body) {
  const response = await fetch(url, {
    method,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(CALL_MS),
  });
  const answer = await response.json();
  if (response.ok) return answer;
  const reason = `${method} answered ${response.status}`;
  throw response.status >= 500 || response.status === 429 ? new Error(reason) : new Refused(reason);
}
