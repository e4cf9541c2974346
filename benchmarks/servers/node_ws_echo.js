// Node's `ws`, with bufferutil. See command_line.py.
const fs = require("node:fs");
const { WebSocketServer } = require("ws");

const MAX_MESSAGE = 64 << 20;
const words = process.argv.slice(2);
const at = (name) => words.indexOf(name);
const port = at("--port") < 0 ? 0 : Number(words[at("--port") + 1]);
const file = (offset) => fs.readFileSync(words[at("--tls") + offset]);
const http =
  at("--tls") < 0
    ? require("node:http").createServer()
    : require("node:https").createServer({ cert: file(1), key: file(2) });
const compress = at("--deflate") >= 0;

const topics = new Map();
const subscribersOf = (topic) => {
  if (!topics.has(topic)) topics.set(topic, new Set());
  return topics.get(topic);
};

const server = new WebSocketServer({
  server: http,
  maxPayload: MAX_MESSAGE,
  perMessageDeflate: compress && {
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
    threshold: 0,
  },
});
server.on("connection", (ws, request) => {
  ws.on("error", () => {});
  const [, kind, topic] = request.url.split("/");
  if (kind === "sub") {
    const subscribers = subscribersOf(topic);
    subscribers.add(ws);
    ws.on("close", () => subscribers.delete(ws));
  } else if (kind === "pub") {
    const subscribers = subscribersOf(topic);
    ws.on("message", (data, binary) => {
      for (const subscriber of subscribers) subscriber.send(data, { binary, compress });
    });
  } else {
    ws.on("message", (data, binary) => ws.send(data, { binary, compress }));
  }
});
http.listen({ port, host: "127.0.0.1", backlog: 4096 }, () => console.log(http.address().port));
