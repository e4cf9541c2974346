"""tornado on uvloop. See command_line.py."""

import asyncio
from collections import defaultdict

import uvloop
from command_line import MAX_MESSAGE, parse, refuse, tls_context
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

options = parse()
if options.deflate:
    refuse("tornado drops the parameters without a value of an offer, so it cannot agree to no context takeover")
topics = defaultdict(set)


class Handler(WebSocketHandler):
    def check_origin(self, origin):
        return True


class Echo(Handler):
    def on_message(self, message):
        self.write_message(message, isinstance(message, bytes))


class Subscriber(Handler):
    def open(self, topic):
        self.subscribers = topics[topic]
        self.subscribers.add(self)

    def on_message(self, message):
        pass

    def on_close(self):
        self.subscribers.discard(self)


class Publisher(Handler):
    def open(self, topic):
        self.subscribers = topics[topic]

    def on_message(self, message):
        binary = isinstance(message, bytes)
        for subscriber in self.subscribers:
            subscriber.write_message(message, binary)


async def main():
    app = Application(
        [("/", Echo), ("/sub/(.*)", Subscriber), ("/pub/(.*)", Publisher)],
        websocket_max_message_size=MAX_MESSAGE,
        log_function=lambda handler: None,
    )
    server = HTTPServer(app, ssl_options=tls_context(options), max_buffer_size=2 * MAX_MESSAGE)
    sockets = bind_sockets(options.port, "127.0.0.1", backlog=4096)
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
