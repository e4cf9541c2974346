#include "py/server/stats.h"

#include <algorithm>
#include <string>
#include <vector>

#include "docstrings.h"
#include "py/websocket/object.h"
#include "uws/topics/topic_figures.h"

namespace py = pybind11;

namespace uwserve {

namespace {

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
    auto kind = [&way](Opcode opcode) -> const Stats::Kind & { return way[static_cast<unsigned>(opcode)]; };
    uint64_t texts = kind(Opcode::kText).count.get(), binaries = kind(Opcode::kBinary).count.get();
    uint64_t text_bytes = kind(Opcode::kText).bytes.get(), binary_bytes = kind(Opcode::kBinary).bytes.get();
    result["messages"] = texts + binaries;
    result["text_messages"] = texts;
    result["binary_messages"] = binaries;
    result["bytes"] = text_bytes + binary_bytes;
    result["text_bytes"] = text_bytes;
    result["binary_bytes"] = binary_bytes;
    result["pings"] = kind(Opcode::kPing).count.get();
    result["pongs"] = kind(Opcode::kPong).count.get();
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
    const auto *loop = core.instance ? core.instance->loop() : nullptr;
    py::dict result;
    result["uptime"] = counted.uptime();
    // In this order, so that a connection that opens and closes between the two reads is not counted as closed only.
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

// Python is called only after the walk: making objects can run finalisers, which may unsubscribe.
py::dict topics(ServerCore &core) {
    check_loop_thread(core, "Server.topics");
    py::dict all;
    if (!core.instance) return all;
    for (const TopicFigures &topic : figures_of_topics(*core.instance)) {
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
    py::list list;
    if (!core.instance) return list;
    std::vector<Ref> handles;  // held before any object is made, which may run finalisers
    for (Socket *ws : subscribers_of(*core.instance, topic)) {
        if (void *handle = ws->getUserData()->handle) handles.push_back(Ref::borrow(static_cast<PyObject *>(handle)));
    }
    std::sort(handles.begin(), handles.end(),
              [](const Ref &a, const Ref &b) { return as_ws(a.get())->id < as_ws(b.get())->id; });
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
