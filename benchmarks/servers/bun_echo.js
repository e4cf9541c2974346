// Echo with Bun. Prints its port, serves until killed.
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response("not a WebSocket", { status: 400 });
  },
  websocket: {
    maxPayloadLength: 64 << 20,
    message(ws, message) {
      ws.send(message);
    },
  },
});
console.log(server.port);
