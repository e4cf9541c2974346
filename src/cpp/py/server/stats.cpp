// A server's figures: stats() for any thread, topics() and subscribers() for its own.
//
// Nothing here is on the way of a message: the numbers lie where they are counted (limits/stats.h, limits/refusals.h,
// server/handler_errors.h), and are put together on request. Names of keys are promises: uwserve/stats.py documents them.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <new>
#include <string>
#include <unordered_set>
#include <vector>

#include "py/server/bind.h"
#include "py/request/request.h"
#include "py/websocket/object.h"
#include "docstrings.h"

namespace py = pybind11;

namespace uwserve {

namespace {

constexpr auto kText = uWS::OpCode::TEXT, kBinary = uWS::OpCode::BINARY, kPing = uWS::OpCode::PING,
               kPong = uWS::OpCode::PONG;

py::dict refused(const ServerCore &core) {
    py::dict counts;
    for (size_t i = 0; i < kRefusals; i++) {
        auto cause = static_cast<Refusal>(i);
        counts[refusal_name(cause)] = core.limits.refusals.total(cause);
    }
    return counts;
}

py::dict direction(const Stats::Direction &way, uint64_t wire_bytes) {
    py::dict result;
    // Each counter is read once, so that the sums are those of the parts.
    uint64_t texts = way[kText].count.get(), binaries = way[kBinary].count.get();
    uint64_t text_bytes = way[kText].bytes.get(), binary_bytes = way[kBinary].bytes.get();
    result["messages"] = texts + binaries;
    result["text_messages"] = texts;
    result["binary_messages"] = binaries;
    result["bytes"] = text_bytes + binary_bytes;
    result["text_bytes"] = text_bytes;
    result["binary_bytes"] = binary_bytes;
    result["pings"] = way[kPing].count.get();
    result["pongs"] = way[kPong].count.get();
    result["compressed_messages"] = way.compressed.get();
    result["uncompressed_bytes"] = way.plain_bytes.get();
    result["compressed_bytes"] = way.compressed_bytes.get();
    result["wire_bytes"] = wire_bytes;
    return result;
}

py::dict gauge_and_total(const char *gauge, uint64_t now, uint64_t total) {
    py::dict result;
    result[gauge] = now;
    result["total"] = total;
    return result;
}

py::dict stats(const ServerCore &core) {
    const Stats &counted = core.limits.stats;
    const us_loop_t *loop = core.instance ? core.instance->loop() : nullptr;
    py::dict result;
    result["uptime"] = counted.uptime();
    // In this order: what has closed has opened, also when it does so between the two.
    uint64_t closed = counted.disconnections.get(), opened = counted.connections.get();
    result["connections"] = gauge_and_total("open", opened - closed, opened);
    result["requests"] = gauge_and_total("pending", core.instance ? core.instance->connections().pending.load() : 0,
                                         counted.requests.get());
    result["websockets"] = gauge_and_total("open", core.pending_websockets, counted.upgrades.get());
    result["declined_upgrades"] = counted.declined.get();
    result["refused"] = refused(core);
    result["received"] = direction(counted.received, counted.bytes_read(loop));
    result["sent"] = direction(counted.sent, counted.bytes_written(loop));
    result["backpressured_sends"] = counted.backpressured.get();
    result["dropped_sends"] = core.limits.refusals.total(Refusal::kSendsBackpressure) +
                              core.limits.refusals.total(Refusal::kSendsBufferedBytes);
    result["publishes"] = counted.publishes.get();
    py::dict closes;
    counted.closes.each([&](int code, uint64_t count) { closes[py::int_(code)] = count; });
    result["closes"] = closes;
    py::dict errors;
    for (size_t i = 0; i < kCountedOrigins; i++) {
        errors[kOriginNames[i].data()] = core.handler_errors.of(i);
    }
    result["handler_errors"] = errors;
    const RunningHandlers &handlers = core.running_handlers;
    py::dict running = gauge_and_total("running", handlers.running(), handlers.total());
    running["bytes"] = handlers.bytes();
    running["paused"] = handlers.paused();
    result["handlers"] = running;
    result["buffered_bytes"] = core.limits.buffered_bytes();
    return result;
}

void check_loop_thread(ServerCore &core, const char *call) {
    if (!core.check_alive(call)) throw py::error_already_set();
    if (core.on_loop_thread()) return;
    core.refuse_thread(call);
    throw py::error_already_set();
}

// Every topic is some socket's. Python is called only after the walk: making objects can run finalisers, and those may
// unsubscribe.
py::dict topics(ServerCore &core) {
    check_loop_thread(core, "Server.topics");
    struct TopicFigures {
        std::string name;
        uint64_t subscribers, publishes;
    };
    struct Walk {
        const TopicCounts &counts;
        std::unordered_set<const uWS::Topic *> seen;
        std::vector<TopicFigures> topics;
        bool has_failed;
    } walk{core.limits.stats.topics, {}, {}, false};
    if (core.instance) {
        us_socket_context_each(core.instance->ws_context(), [](us_socket_t *s, void *user) {
            uWS::Subscriber *subscriber = subscriber_of(reinterpret_cast<Socket *>(s));
            if (!subscriber) return;
            auto &[counts, seen, topics, has_failed] = *static_cast<Walk *>(user);
            try {
                for (const uWS::Topic *topic : subscriber->topics) {
                    if (seen.insert(topic).second) topics.push_back({topic->name, topic->size(), counts.of(topic)});
                }
            } catch (const std::bad_alloc &) {  // not through the socket layer
                has_failed = true;
            }
        }, &walk);
    }
    if (walk.has_failed) throw std::bad_alloc();  // MemoryError
    std::sort(walk.topics.begin(), walk.topics.end(),
              [](const TopicFigures &a, const TopicFigures &b) { return a.name < b.name; });
    py::dict all;
    for (const TopicFigures &topic : walk.topics) {
        py::dict one;
        one["subscribers"] = topic.subscribers;
        one["publishes"] = topic.publishes;
        all[py::str(topic.name)] = one;
    }
    return all;
}

py::list subscribers(ServerCore &core, const py::object &name) {
    std::string_view topic;
    if (!read_topic(name.ptr(), &topic)) throw py::error_already_set();
    check_loop_thread(core, "Server.subscribers");
    std::vector<Ref> handles;  // references of our own before anything is made
    uWS::Topic *found = core.instance ? core.instance->topics().tree()->lookupTopic(topic) : nullptr;
    if (found) {
        for (uWS::Subscriber *subscriber : *found) {
            auto *handle = static_cast<PyObject *>(static_cast<Socket *>(subscriber->user)->getUserData()->handle);
            if (handle) handles.push_back(Ref::borrow(handle));
        }
    }
    std::sort(handles.begin(), handles.end(),
              [](const Ref &a, const Ref &b) { return as_ws(a.get())->id < as_ws(b.get())->id; });
    py::list list;
    for (const Ref &handle : handles) list.append(py::handle(handle.get()));
    return list;
}

Ref callable(const py::object &object) {
    if (!PyCallable_Check(object.ptr())) throw py::type_error("the hooks of a connection log must be callable");
    return Ref::borrow(object.ptr());
}

void set_connection_log(ServerCore &core, const py::object &is_wanted, const py::object &opened,
                        const py::object &closed) {
    Ref hooks[] = {callable(is_wanted), callable(opened), callable(closed)};
    core.connections_log.is_wanted = std::move(hooks[0]);
    core.connections_log.opened = std::move(hooks[1]);
    core.connections_log.closed = std::move(hooks[2]);
}

}  // namespace

void bind_stats(py::class_<ServerCore> &type, py::class_<ServerControl> &control) {
    py::options plain_docs;
    plain_docs.disable_function_signatures();
    type.def_property_readonly("refused", &refused, docs::kServerCore_refused);
    type.def("stats", &stats, docs::pybind::kServerCore_stats);
    type.def("topics", &topics, docs::pybind::kServerCore_topics);
    type.def("subscribers", &subscribers, py::arg("topic"), docs::pybind::kServerCore_subscribers);
    control.def("count_handler_error", [](ServerCore &core, std::string_view where) {
        core.handler_errors.count(origin_named(where));
    }, py::arg("where"), docs::pybind::kServerControl_count_handler_error);
    control.def("set_connection_log", &set_connection_log, py::arg("is_wanted"), py::arg("opened"), py::arg("closed"),
                docs::pybind::kServerControl_set_connection_log);
}

}  // namespace uwserve
