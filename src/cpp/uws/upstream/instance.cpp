#include "uws/upstream/instance.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "uws/deflate/per_message.h"
#include "usockets/proxy/proxy.h"

namespace uwserve {

namespace {

// The timeout of a PROXY header and of a TLS handshake when HTTP connections have no idle timeout.
constexpr unsigned kOpeningSeconds = 10;

// The private variable in which uWebSockets keeps the loop of each thread. Access is not checked in the arguments of an
// explicit instantiation (C++20, 13.9.3), and a friend that is defined there can be called from here.
uWS::Loop *&loop_of_thread();
template <auto lazy_loop>
struct LazyLoop {
    friend uWS::Loop *&loop_of_thread() { return lazy_loop().loop; }
};
template struct LazyLoop<&uWS::Loop::getLazyLoop>;

// For a scope, this is the loop of the thread (nullptr: it has none).
class LoopOfThread {
  public:
    explicit LoopOfThread(uWS::Loop *loop) : before_(std::exchange(loop_of_thread(), loop)) {}
    ~LoopOfThread() { loop_of_thread() = before_; }
    LoopOfThread(const LoopOfThread &) = delete;
    LoopOfThread &operator=(const LoopOfThread &) = delete;

  private:
    uWS::Loop *before_;
};

// defer() of uWebSockets never releases its lock if memory runs out in it. So each of its two queues gets more room here
// than is ever used (one closure of http/deferred.h and one of the layer above), and keeps it.
void reserve_deferred(us_loop_t *loop) {
    constexpr int kMostDeferred = 8;
    for (int queue = 0; queue < 2; queue++) {
        for (int i = 0; i < kMostDeferred; i++) reinterpret_cast<uWS::Loop *>(loop)->defer([] {});
        us_loop_iterate(loop, 0);  // runs them, and turns to the other queue
    }
}

}  // namespace

std::unique_ptr<Instance> Instance::create(WsHandler &ws_handler, HttpHandler &http_handler, Limits &limits) {
    std::unique_ptr<Instance> instance(new Instance(ws_handler, http_handler, limits));
    try {
        LoopOfThread none(nullptr);
        instance->build(ws_handler);
    } catch (const std::system_error &error) {
        errno = error.code().value();
        return nullptr;
    }
    if (instance->loop_->error) {
        int error = instance->loop_->error;
        instance.reset();
        errno = error;
        return nullptr;
    }
    return instance;
}

void Instance::build(WsHandler &handler) {
    // With a hint, uWebSockets does not free the loop when this thread ends.
    loop_ = reinterpret_cast<us_loop_t *>(uWS::Loop::get(this));
    if (!loop_->error) reserve_deferred(loop_);
    app_ = new App();
    App::WebSocketBehavior<PerSocket> behavior;
    behavior.idleTimeout = 120;
    behavior.sendPingsAutomatically = false;
    behavior.resetIdleTimeoutOnSend = false;
    behavior.maxBackpressure = 0;  // no limit: the Sender admits messages (defect S3)
    behavior.closeOnBackpressureLimit = false;
    behavior.open = [this, &handler](Socket *ws) {
        try {
            enable_compression(ws, codecs_, ws->getUserData()->compression);
        } catch (...) {
            ws->getUserData()->handle = nullptr;  // never opened: the caller still owns it
            throw;
        }
        lifecycle_.opened(raw(ws));
        handler.on_open(ws);
    };
    behavior.drain = [&handler](Socket *ws) { handler.on_drain(ws); };
    behavior.close = [&handler](Socket *ws, int code, std::string_view reason) {
        if (uint16_t violation = ws->getUserData()->fail_code; violation && code == 1006) code = violation;
        handler.on_close(ws, code, reason);
    };
    topics_.install(*app_);
    app_->ws<PerSocket>("/*", std::move(behavior));
    app_->any("/*", [this](Response *response, uWS::HttpRequest *) { connections_.on_upstream_request(response); });

    // The App made two contexts on this loop: the parent for HTTP and its child for WebSockets.
    for (us_socket_context_t *c = us_loop_next_context(loop_, nullptr); c; c = us_loop_next_context(loop_, c)) {
        (c->is_child_ ? ws_ : http_) = c;
    }
    us_loop_on_failure(loop_, on_failure, loop_);
    listeners_.install(http_);
    connections_.install(http_, ws_);
    connections_.limits().install(http_, ws_);
    lifecycle_.install(ws_, &connections_, &handler);
}

Instance::~Instance() {
    if (!loop_) return;
    connections_.limits().stats.keep(loop_);
    LoopOfThread ours(reinterpret_cast<uWS::Loop *>(loop_));  // ~App uses it
    delete app_;
    reinterpret_cast<uWS::Loop *>(loop_)->free();
}

void Instance::apply_settings(const HttpSettings &http) {
    const WebSocketSettings &websocket = connections_.limits().websocket;
    lifecycle_.idle_timeout.set_schedule(
        PingSchedule(websocket.idle_timeout, websocket.send_pings, websocket.ping_interval));
    lifecycle_.set_max_lifetime(websocket.max_lifetime);
    connections_.idle_timeout = http.idle_timeout;
    connections_.keep_alive_timeout = http.keep_alive_timeout;
    connections_.min_body_rate = http.min_body_rate;
    connections_.max_body = http.max_body;
    proxies_ = connections_.limits().proxies.view();
    us_socket_context_proxy(http_, http.proxy_protocol ? &proxies_ : nullptr,
                            http.idle_timeout ? http.idle_timeout : kOpeningSeconds);
    us_socket_context_tls_deadline(http_, http.idle_timeout ? 0 : kOpeningSeconds);
}

// A callback has thrown: the corked socket is closed, and its bytes are dropped.
void Instance::on_failure(void *loop) {
    uWS::LoopData *data = loop_data(static_cast<us_loop_t *>(loop));
    auto *corked = static_cast<us_socket_t *>(data->corkedSocket);
    data->corkedSocket = nullptr;
    if (std::exchange(data->corkOffset, 0) && corked) us_socket_close(0, corked, 0, nullptr);
}

}  // namespace uwserve
