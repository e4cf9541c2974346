// TlsConfig: a checked TLS configuration as a Python object. Made on any thread, before there is a server to use it, so
// that serve() and reload() refuse a bad one before anything has changed.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "py/server/bind.h"
#include "usockets/tls/tls.h"
#include "docstrings.h"
#include "py/interpreter/gil.h"

namespace py = pybind11;

namespace uwserve {

namespace {

us_tls_entry_t read_entry(const py::dict &given, std::vector<py::bytes> &kept) {
    // No data for None; an empty text is a given one. The bytes are kept while the GIL is not.
    auto view_of = [&](const char *name) -> std::string_view {
        py::object object = given[name];
        if (object.is_none()) return {};
        kept.push_back(object.cast<py::bytes>());
        std::string_view view = kept.back();
        return view.data() ? view : std::string_view("", 0);
    };
    us_tls_entry_t entry;
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

std::unique_ptr<TlsConfig> make_config(const py::list &given) {
    std::vector<us_tls_entry_t> entries;
    std::vector<py::bytes> kept;
    std::vector<std::string> labels;
    for (const py::handle &item : given) {
        auto entry = item.cast<py::dict>();
        labels.push_back(entry["label"].cast<std::string>());
        entries.push_back(read_entry(entry, kept));
    }
    if (entries.empty()) throw py::value_error("tls has no entry");
    us_tls_error_t error;
    us_tls_config_t *native = nullptr;
    {
        ReleasedGil released;  // deriving a key from a passphrase takes its time
        native = us_tls_config_new(entries, &error);
    }
    if (!native) throw py::value_error(labels[error.entry] + "." + error.option + " " + error.text);
    return std::make_unique<TlsConfig>(native);
}

}  // namespace

TlsConfig::~TlsConfig() { us_tls_config_unref(native); }

void bind_tls(py::module_ &module) {
    py::options plain_docs;
    plain_docs.disable_function_signatures();
    py::class_<TlsConfig>(module, "TlsConfig", docs::kTlsConfig)
        .def(py::init(&make_config), py::arg("entries"), docs::pybind::kTlsConfig_init);
}

}  // namespace uwserve
