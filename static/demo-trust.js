// The policy of the page lets no script come from text (Trusted Types). The client library has to start its SharedWorker all the same: this
// lets that one URL pass, and nothing else. It is to be imported before anything that needs it.

const library = new URL("./sluice.js", import.meta.url).href;

/** scriptURL returns url if it is the library's, else nothing, which refuses it. */
export function scriptURL(url) {
  return url === library ? url : undefined;
}

globalThis.trustedTypes?.createPolicy("default", { createScriptURL: scriptURL });
