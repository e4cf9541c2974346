// Plain uWebSockets on our socket layer, without Python: the ceiling for uwserve's binding.
//
//   uws-server [--tls CERT KEY] [--deflate] [--port N]
//
// Prints its port, serves until killed. / echoes, /pub/NAME publishes to a topic, /sub/NAME gets what is published.
// TLS is the socket layer's, as in uwserve; compression is uWebSockets' own, shared, without context takeover.
#include <App.h>
#include <tls.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace {

struct Nothing {};
struct Topic {
    std::string name;
};
template <typename Data>
using Socket = uWS::WebSocket<false, true, Data>;
template <typename Data>
using Behavior = uWS::App::WebSocketBehavior<Data>;
using Response = uWS::HttpResponse<false>;

struct Options {
    const char *cert = nullptr, *key = nullptr;
    bool deflate = false;
    int port = 0;
};

[[noreturn]] void fail(const std::string &what) {
    fprintf(stderr, "uws-server: %s\n", what.c_str());
    exit(2);
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--tls") && i + 2 < argc) {
            options.cert = argv[++i];
            options.key = argv[++i];
        } else if (!strcmp(argv[i], "--port") && i + 1 < argc) {
            options.port = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--deflate")) {
            options.deflate = true;
        } else {
            fail(std::string("what is ") + argv[i] + "?");
        }
    }
    return options;
}

std::string read_file(const char *path) {
    std::ifstream file(path);
    if (!file) fail(std::string(path) + " can't be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

// Of the App's parent context, which is the only one at this time.
void set_tls(const Options &options) {
    std::string cert = read_file(options.cert), key = read_file(options.key);
    us_tls_entry_t entry;
    entry.cert = cert;
    entry.key = key;
    us_tls_error_t error;
    us_tls_config_t *config = us_tls_config_new({entry}, &error);
    if (!config) fail(std::string(error.option) + ": " + error.text);
    auto *loop = reinterpret_cast<us_loop_t *>(uWS::Loop::get());
    us_socket_context_set_tls(us_loop_next_context(loop, nullptr), config);
}

template <typename Data>
Behavior<Data> behavior(const Options &options) {
    Behavior<Data> common;
    common.compression =
        options.deflate ? uWS::CompressOptions(uWS::SHARED_COMPRESSOR | uWS::SHARED_DECOMPRESSOR) : uWS::DISABLED;
    common.idleTimeout = 120;
    common.maxPayloadLength = 64u << 20;
    common.maxBackpressure = 64u << 20;
    return common;
}

// The last part of the path is kept with the socket.
void upgrade(Response *response, uWS::HttpRequest *request, us_socket_context_t *context) {
    response->upgrade<Topic>({std::string(request->getParameter(0))}, request->getHeader("sec-websocket-key"),
                             request->getHeader("sec-websocket-protocol"),
                             request->getHeader("sec-websocket-extensions"), context);
}

}  // namespace

int main(int argc, char **argv) {
    Options options = parse(argc, argv);
    uWS::App app;
    if (options.cert) set_tls(options);
    bool deflate = options.deflate;

    auto echo = behavior<Nothing>(options);
    echo.message = [deflate](Socket<Nothing> *ws, std::string_view message, uWS::OpCode opcode) {
        ws->send(message, opcode, deflate);
    };
    auto subscriber = behavior<Topic>(options);
    subscriber.upgrade = upgrade;
    subscriber.maxBackpressure = 16u << 20;  // Bun's default, and uwserve's: what a slow one may keep
    subscriber.open = [](Socket<Topic> *ws) { ws->subscribe(ws->getUserData()->name); };
    auto publisher = behavior<Topic>(options);
    publisher.upgrade = upgrade;
    publisher.message = [&app, deflate](Socket<Topic> *ws, std::string_view message, uWS::OpCode opcode) {
        app.publish(ws->getUserData()->name, message, opcode, deflate);
    };

    app.ws<Nothing>("/", std::move(echo))
        .ws<Topic>("/sub/:name", std::move(subscriber))
        .ws<Topic>("/pub/:name", std::move(publisher))
        .listen("127.0.0.1", options.port, [](us_listen_socket_t *listener) {
        if (!listener) fail("can't listen");
        printf("%d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener)));
        fflush(stdout);
    }).run();
    return 1;  // it runs until a signal ends it
}
