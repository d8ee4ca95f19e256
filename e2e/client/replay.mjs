// A node that has been recorded: it opens real sockets and answers with the golden frames that the Go tests hold the encoder to.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";

const testdata = new URL("../../transport/testdata/", import.meta.url);
const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455 §1.3

/** golden reads a golden file: bytes, or for .json what it says. */
export async function golden(name) {
  const bytes = await readFile(new URL(name, testdata));
  return name.endsWith(".json") ? JSON.parse(bytes) : bytes;
}

/** replay starts a node that says what one golden file, "golden" or "golden-paced", has to say about the channel news, size bytes in a write. */
export async function replay(name, size = Infinity) {
  const [sse, ws, poll] = await Promise.all([golden(`${name}-sse-json.txt`), golden(`${name}-ws-json.bin`), golden(`${name}-poll.txt`)]);
  const welcome = { session: "s1", heartbeat: 30, channels: ["news"], retry: 10 };

  let polls = 0;
  const server = createServer(async (request, answer) => {
    const { pathname } = new URL(request.url, "http://x");
    if (pathname === "/sse") {
      answer.writeHead(200, { "content-type": "text/event-stream" });
      answer.write(`event: welcome\nid: AQGiB8d7Q8e8Rp88\nretry: 10\ndata: ${JSON.stringify(welcome)}\n\n`);
      await slowly(answer, sse, size);
    } else if (pathname === "/poll") {
      const first = !polls++;
      const messages = first ? "" : poll.subarray(0, -1); // it ends with a comma
      const text = Buffer.concat([Buffer.from('{"messages":['), Buffer.from(messages), Buffer.from('],"token":"AQGiB8d7Q8e8Rp88","retry":' + (first ? 0 : 2000) + "}\n")]);
      answer.writeHead(200, { "content-type": "application/json", "content-length": text.length });
      await slowly(answer, text, size);
      answer.end();
    } else {
      answer.writeHead(404).end();
    }
  });

  const sockets = new Set(); // those that have left HTTP
  server.on("upgrade", (request, socket) => {
    const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + guid).digest("base64");
    sockets.add(socket);
    socket.on("error", () => {});
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: sluice.v1.json\r\n\r\n`);
    socket.write(frame({ type: "welcome", ...welcome, token: "AQGiB8d7Q8e8Rp88" }));
    let got = Buffer.alloc(0);
    socket.on("data", async (part) => {
      got = Buffer.concat([got, part]);
      for (let c; (c = command()); ) {
        const { type, ref, subscriptions } = c;
        const channels = type === "subscribe" ? { channels: subscriptions.map(({ channel }) => ({ channel, position: "" })) } : {};
        socket.write(frame({ type: "reply", ref, ...channels }));
        if (type === "subscribe") await slowly(socket, ws, size);
      }
    });

    /** command takes one command off what has come, if there is a whole one: a masked text frame of less than 64 KiB. */
    function command() {
      if (got.length < 2) return;
      let length = got[1] & 127;
      const head = length < 126 ? 2 : 4;
      if (length === 126 && got.length >= 4) length = got.readUInt16BE(2);
      if (got.length < head + 4 + length) return;
      const [opcode, mask] = [got[0] & 15, got.subarray(head, head + 4)];
      const text = Buffer.from(got.subarray(head + 4, head + 4 + length)).map((b, i) => b ^ mask[i % 4]);
      got = got.subarray(head + 4 + length);
      return opcode === 1 ? JSON.parse(text) : command();
    }
  });

  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${server.address().port}/`;
  const close = () =>
    new Promise((done) => {
      server.close(done);
      server.closeAllConnections();
      for (const socket of sockets) socket.destroy();
    });
  return { url, close };
}

/** frame makes a WebSocket text frame of less than 64 KiB. */
function frame(value) {
  const text = Buffer.from(JSON.stringify(value));
  const head = text.length < 126 ? [0x81, text.length] : [0x81, 126, text.length >> 8, text.length & 255];
  return Buffer.concat([Buffer.from(head), text]);
}

/** slowly writes in pieces, each after the one before has left. */
async function slowly(stream, bytes, size) {
  for (let i = 0; i < bytes.length; i += size) {
    await new Promise((done) => stream.write(bytes.subarray(i, Math.min(i + size, bytes.length)), done));
    if (size < bytes.length) await new Promise(setImmediate);
  }
}
