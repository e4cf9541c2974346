// Plain uWebSockets where a connection may have many topics: /many/N subscribes to N topics that nobody
// publishes to. For growth.py; the rest is as in uws.cpp.
#include <App.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

struct Topic {
    std::string name;
};
using Socket = uWS::WebSocket<false, true, Topic>;

uWS::App::WebSocketBehavior<Topic> behavior() {
    uWS::App::WebSocketBehavior<Topic> result;
    result.idleTimeout = 120;
    result.maxPayloadLength = 64u << 20;
    result.maxBackpressure = 64u << 20;
    result.upgrade = [](uWS::HttpResponse<false> *response, uWS::HttpRequest *request, us_socket_context_t *context) {
        response->upgrade<Topic>({std::string(request->getParameter(0))}, request->getHeader("sec-websocket-key"),
                                 request->getHeader("sec-websocket-protocol"),
                                 request->getHeader("sec-websocket-extensions"), context);
    };
    return result;
}

}  // namespace

int main() {
    uWS::App app;
    auto subscriber = behavior(), publisher = behavior(), many = behavior();
    subscriber.open = [](Socket *ws) { ws->subscribe(ws->getUserData()->name); };
    publisher.message = [&app](Socket *ws, std::string_view message, uWS::OpCode opcode) {
        app.publish(ws->getUserData()->name, message, opcode, false);
    };
    many.open = [](Socket *ws) {
        int count = atoi(ws->getUserData()->name.c_str());
        for (int i = 0; i < count; i++) ws->subscribe("quiet" + std::to_string(i));
    };
    app.ws<Topic>("/sub/:name", std::move(subscriber))
        .ws<Topic>("/pub/:name", std::move(publisher))
        .ws<Topic>("/many/:name", std::move(many))
        .listen("127.0.0.1", 0, [](us_listen_socket_t *listener) {
        if (!listener) exit(2);
        printf("%d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener)));
        fflush(stdout);
    }).run();
    return 1;  // it runs until a signal ends it
}
