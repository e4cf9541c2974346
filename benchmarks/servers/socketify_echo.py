"""socketify: its own application, with uWebSockets' topics. See command_line.py."""

import os
import signal

from command_line import MAX_MESSAGE, parse
from socketify import App, AppListenOptions, AppOptions, CompressOptions

options = parse()
compress = options.deflate


def accept(response, request, context):
    # What the handshake says it must be told itself; the data is the publisher's topic.
    response.upgrade(
        request.get_header("sec-websocket-key"),
        request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"),
        context,
        request.get_parameter(0),
    )


def echo(ws, message, opcode):
    ws.send(message, opcode, compress)


def subscribe(ws):
    ws.subscribe(ws.get_user_data())


def publish(ws, message, opcode):
    app.publish(ws.get_user_data(), message, opcode, compress)


def listening(config):
    print(config.port, flush=True)


def behaviour(**handlers):
    return {
        "compression": CompressOptions.SHARED_COMPRESSOR if compress else CompressOptions.DISABLED,
        "max_payload_length": MAX_MESSAGE,
        "max_backpressure": MAX_MESSAGE,
        "idle_timeout": 120,
        **handlers,
    }


tls = AppOptions(cert_file_name=options.tls[0], key_file_name=options.tls[1]) if options.tls else None
app = App(tls, websocket_factory_max_items=100_000)
app.ws("/", behaviour(message=echo))
app.ws("/sub/:topic", behaviour(upgrade=accept, open=subscribe, message=lambda ws, message, opcode: None))
app.ws("/pub/:topic", behaviour(upgrade=accept, message=publish))
app.listen(AppListenOptions(port=options.port, host="127.0.0.1"), listening)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
app.run()
