"""Echo with uwserve. Prints its port, serves until SIGTERM."""

import uwserve


def fetch(request, server):
    server.upgrade(request)


def message(ws, data):
    ws.send(data)


server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={"message": message})
print(server.port, flush=True)
server.run()
