// Echo with plain uWebSockets on our socket layer: the ceiling for uwserve's binding. Prints its port, serves until killed.
#include <App.h>

#include <cstdio>

namespace {

struct Nothing {};
using Socket = uWS::WebSocket<false, true, Nothing>;

}  // namespace

int main() {
    uWS::App::WebSocketBehavior<Nothing> behavior;
    behavior.idleTimeout = 120;
    behavior.maxPayloadLength = 64u << 20;
    behavior.maxBackpressure = 64u << 20;
    behavior.message = [](Socket *ws, std::string_view message, uWS::OpCode opcode) { ws->send(message, opcode); };
    uWS::App()
        .ws<Nothing>("/*", std::move(behavior))
        .listen("127.0.0.1", 0, [](us_listen_socket_t *listener) {
        if (!listener) return;
        printf("%d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener)));
        fflush(stdout);
    }).run();
    return 1;  // it runs until a signal ends it
}
