// A network between a client and the node that can be cut, and that can refuse what it does not like. It passes bytes on and knows no protocol.

import { createServer, connect } from "node:net";

/**
 * wire listens on a port of its own and passes connections on to the node at target. modes: "pass"; "refuse" closes each connection at once;
 * "swallow" takes them and says nothing. With unwanted, a pattern of a request's first line, the mode is only for connections that begin so, or for
 * requests that do.
 */
export async function wire(target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  const self = { mode: "pass", unwanted: undefined, times: [] };

  const server = createServer((near) => {
    self.times.push(Date.now());
    const far = connect(port, hostname);
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on("data", (bytes) => {
      const unwanted = self.mode !== "pass" && (!self.unwanted || self.unwanted.test(bytes.toString("latin1").split("\r\n")[0]));
      if (!unwanted) far.write(bytes);
      else if (self.mode === "refuse") near.destroy();
    });
    far.on("data", (bytes) => near.write(bytes));
    if (self.mode === "refuse" && !self.unwanted) near.destroy();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  self.url = `http://127.0.0.1:${server.address().port}/`;
  self.cut = () => open.forEach((socket) => socket.destroy());
  self.close = () =>
    new Promise((done) => {
      server.close(done);
      self.cut();
    });
  return self;
}
