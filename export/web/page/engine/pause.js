/** Pauses for the event loop, so that a worker that computes receives its messages. */

const INTERVAL_MS = 20;

/** Pauses at intervals; a pause takes some microseconds, where a timer would take four milliseconds. */
export class Pause {
  constructor() {
    this._channel = new MessageChannel();
    this._last = performance.now();
  }

  /** Let the event loop deliver waiting messages, if the last pause was some time ago. */
  async ifDue() {
    if (performance.now() - this._last < INTERVAL_MS) return;
    await new Promise((resolve) => {
      this._channel.port1.onmessage = resolve;
      this._channel.port2.postMessage(null);
    });
    this._last = performance.now();
  }
}
