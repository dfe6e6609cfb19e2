/** The worker that asks the server: requests of the page come in, reports go out. */

import { Chat } from "./chat.js";
import { Requests, listener, report } from "./requests.js";
import { Server } from "./server.js";

/** The description of the server's models, for this page. */
const MODELS = "page.json";

new Requests(load, (chat, question, signal) => chat.send(question, signal, listener)).listen();

/** @param {import("./messages.js").LoadOptions} options */
async function load({ model, key }) {
  const server = new Server(key);
  const { models } = await server.read(MODELS);
  const names = models.map((/** @type {{model: string}} */ each) => each.model);
  const facts = { ...(models[names.indexOf(model)] ?? models[0]), models: names };
  report({ type: "ready", facts });
  return new Chat(server, facts);
}
