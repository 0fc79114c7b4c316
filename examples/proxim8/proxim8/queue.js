// The queue of video jobs: in memory, bounded both in what waits and in what runs, and open to inspection.
import { ApiError } from '../web/answers.js';

const REMEMBERED = 20;

export class JobQueue {
  #work;
  #capacity;
  #concurrency;
  #waiting = [];
  #running = new Map();
  #recent = [];
  #reserved = 0;
  #counts = { done: 0, failed: 0, dropped: 0, retries: 0 };
  #closed = false;
  #whenIdle = () => {};

  /** `work(job, {retried})` resolves to `done` or `failed` (the video's fate), or to `dropped` (the job came to nothing). */
  constructor(work, { capacity, concurrency }) {
    this.#work = work;
    this.#capacity = capacity;
    this.#concurrency = concurrency;
  }

  /** Keeps a place free while `make(enqueue)` prepares the job; 503 when there is none. */
  async withRoom(make) {
    if (this.#closed || this.#waiting.length + this.#reserved >= this.#capacity) {
      throw new ApiError(503, 'Video queue is full');
    }
    this.#reserved += 1;
    try {
      return await make((job) => this.#enqueue(job));
    } finally {
      this.#reserved -= 1;
    }
  }

  /** Counts, and the last jobs, newest first. */
  inspect() {
    return {
      waiting: this.#waiting.length,
      running: this.#running.size,
      ...this.#counts,
      jobs: [...this.#waiting.toReversed(), ...this.#running.values(), ...this.#recent].slice(0, REMEMBERED),
    };
  }

  /** Takes nothing new and resolves when what runs has ended. What still waits is lost with the process, and counted. */
  async close() {
    this.#closed = true;
    const lost = this.#waiting.splice(0).length;
    if (this.#running.size > 0) await new Promise((resolve) => { this.#whenIdle = resolve; });
    return lost;
  }

  #enqueue({ jobId, videoId, nftId }) {
    const known = this.#running.get(jobId) ?? this.#waiting.find((job) => job.jobId === jobId);
    if (known) return known; // queueing twice is once
    const job = { jobId, videoId, nftId, state: 'waiting', queuedAt: new Date() };
    this.#waiting.push(job);
    this.#start();
    return job;
  }

  #start() {
    while (this.#running.size < this.#concurrency && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      this.#running.set(job.jobId, job);
      job.state = 'running';
      this.#finish(job);
    }
  }

  async #finish(job) {
    job.state = await this.#work(job, { retried: () => { this.#counts.retries += 1; } });
    job.endedAt = new Date();
    this.#counts[job.state] += 1;
    this.#running.delete(job.jobId);
    this.#recent.unshift(job);
    this.#recent.length = Math.min(this.#recent.length, REMEMBERED);
    if (!this.#closed) this.#start();
    else if (this.#running.size === 0) this.#whenIdle();
  }
}
