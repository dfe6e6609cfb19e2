/** Cross-origin isolation, which threads need: by a service worker, where the server does not send the headers for it. */

const TRIED = "minimind-edge-isolation-tried";
const PATIENCE_MS = 5000;

/**
 * Isolate the page where that is possible, which takes one reload.
 *
 * @returns {Promise<boolean>} Whether the page goes on; false while it is being reloaded.
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

/** Whether the service worker is active; some browsers accept it and never start it. */
function isReady() {
  const begun = navigator.serviceWorker.ready.then(() => true);
  const late = new Promise((resolve) => setTimeout(() => resolve(false), PATIENCE_MS));
  return Promise.race([begun, late]);
}

/** Whether the page was reloaded for it already; true too where the browser cannot remember it, so that it never loops. */
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
    // The browser has no storage, so there is nothing to remove.
  }
}
