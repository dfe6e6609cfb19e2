/**
 * A service worker that makes the site cross-origin isolated on any server, which WebAssembly needs for threads.
 *
 * Static servers seldom send the two headers for it, so this worker adds them to every response that passes through it.
 * It stores nothing and sends no requests of its own.
 */

addEventListener("install", () => /** @type {any} */ (self).skipWaiting());
addEventListener("activate", (event) => /** @type {any} */ (event).waitUntil(/** @type {any} */ (self).clients.claim()));

addEventListener("fetch", (event) => {
  const { request } = /** @type {any} */ (event);
  if (new URL(request.url).origin === location.origin) /** @type {any} */ (event).respondWith(isolated(request));
});

/** @param {Request} request */
async function isolated(request) {
  const response = await fetch(request);
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
