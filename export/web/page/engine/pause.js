/** Gives the event loop its turn, so that a worker that computes hears what it is told. */

const INTERVAL_MS = 20;

/** Pauses now and then; a pause takes some microseconds, where a timer would take four milliseconds. */
export class Pause {
  constructor() {
    this._channel = new MessageChannel();
    this._last = performance.now();
  }

  /** Let waiting messages in, if none were let in for a while. */
  async ifDue() {
    if (performance.now() - this._last < INTERVAL_MS) return;
    await new Promise((resolve) => {
      this._channel.port1.onmessage = resolve;
      this._channel.port2.postMessage(null);
    });
    this._last = performance.now();
  }
}
