// Bun. See command_line.py.
const CANNOT = 3;
const MAX_MESSAGE = 64 << 20;
const words = process.argv.slice(2);
const at = (name) => words.indexOf(name);
const port = at("--port") < 0 ? 0 : Number(words[at("--port") + 1]);
const tls = at("--tls") < 0 ? undefined : { cert: Bun.file(words[at("--tls") + 1]), key: Bun.file(words[at("--tls") + 2]) };
const compress = at("--deflate") >= 0;

const server = Bun.serve({
  port,
  hostname: "127.0.0.1",
  tls,
  fetch(request, server) {
    const [, kind, name] = new URL(request.url).pathname.split("/");
    // A publisher's data is its topic, a subscriber's a list of topics.
    const topics = kind === "sub" ? [name] : kind === "many" ? Array.from({ length: Number(name) }, (_, i) => `quiet${i}`) : null;
    const data = kind === "pub" ? name : topics;
    if (server.upgrade(request, data === null ? undefined : { data })) return;
    return new Response("not a WebSocket", { status: 400 });
  },
  websocket: {
    maxPayloadLength: MAX_MESSAGE,
    backpressureLimit: MAX_MESSAGE,
    perMessageDeflate: compress ? { compress: "shared", decompress: "shared" } : false,
    open(ws) {
      if (Array.isArray(ws.data)) for (const topic of ws.data) ws.subscribe(topic);
    },
    message(ws, message) {
      const topic = ws.data;
      if (topic === undefined) ws.send(message, compress);
      else ws.publish(topic, message, compress);
    },
  },
});
console.log(server.port);
