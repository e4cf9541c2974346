#include "py/server/tls_config.h"

#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "docstrings.h"
#include "py/interpreter/gil.h"

namespace py = pybind11;

namespace uwserve {

namespace {

TlsEntry read_entry(const py::dict &given, std::vector<py::bytes> &kept) {
    // None is a view without data, and an empty text has data. The bytes are kept alive while the GIL is released.
    auto view_of = [&](const char *name) -> std::string_view {
        py::object object = given[name];
        if (object.is_none()) return {};
        kept.push_back(object.cast<py::bytes>());
        std::string_view view = kept.back();
        return view.data() ? view : std::string_view("", 0);
    };
    TlsEntry entry;
    entry.key = view_of("key");
    entry.cert = view_of("cert");
    entry.ca = view_of("ca");
    entry.passphrase = view_of("passphrase");
    entry.ciphers = view_of("ciphers");
    entry.alpn = given["alpn_protocols"].cast<std::vector<std::string>>();
    entry.server_names = given["server_name"].cast<std::vector<std::string>>();
    entry.request_cert = given["request_cert"].cast<bool>();
    entry.reject_unauthorized = given["reject_unauthorized"].cast<bool>();
    return entry;
}

TlsConfig make_config(const py::list &given) {
    std::vector<TlsEntry> entries;
    std::vector<py::bytes> kept;
    std::vector<std::string> labels;
    for (const py::handle &item : given) {
        auto entry = item.cast<py::dict>();
        labels.push_back(entry["label"].cast<std::string>());
        entries.push_back(read_entry(entry, kept));
    }
    if (entries.empty()) throw py::value_error("tls has no entry");
    TlsError error;
    std::optional<TlsConfig> config;
    {
        ReleasedGil released;  // deriving a key from a passphrase takes long
        config = TlsConfig::create(entries, &error);
    }
    if (!config) throw py::value_error(labels[error.entry] + "." + error.option + " " + error.text);
    return *std::move(config);
}

}  // namespace

void bind_tls(py::module_ &module) {
    py::class_<TlsConfig>(module, "TlsConfig", docs::kTlsConfig)
        .def(py::init(&make_config), py::arg("entries"), docs::pybind::kTlsConfig_init);
}

}  // namespace uwserve
