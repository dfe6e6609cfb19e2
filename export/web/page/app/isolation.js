/** Cross-origin isolation, which threads need: by a service worker, where the server does not send the headers for it. */

const TRIED = "minimind-edge-isolation-tried";
const PATIENCE_MS = 5000;

/**
 * See that the page is isolated where that can be done; it is loaded anew, once, for that.
 *
 * @returns {Promise<boolean>} Whether the page goes on; false while it is being loaded anew.
 */
export async function isolate() {
  if (crossOriginIsolated) {
    forget();
    return true;
  }
  if (!isSecureContext || !("serviceWorker" in navigator) || wasTried()) return true;
  try {
    await navigator.serviceWorker.register(new URL("../service-worker.js", import.meta.url));
    if (!(await isReady())) return true;
  } catch {
    return true;
  }
  location.reload();
  return false;
}

/** Whether the service worker has begun its work; some browsers take it and never let it. */
function isReady() {
  const begun = navigator.serviceWorker.ready.then(() => true);
  const late = new Promise((resolve) => setTimeout(() => resolve(false), PATIENCE_MS));
  return Promise.race([begun, late]);
}

/** Whether the page was loaded anew for it already; a browser that cannot remember that must not be asked to. */
function wasTried() {
  try {
    const tried = sessionStorage.getItem(TRIED) !== null;
    sessionStorage.setItem(TRIED, "yes");
    return tried;
  } catch {
    return true;
  }
}

function forget() {
  try {
    sessionStorage.removeItem(TRIED);
  } catch {
    // Nothing was kept.
  }
}
