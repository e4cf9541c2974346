#include "py/request/tls.h"

#include "py/request/request.h"
#include "uws/http/tls_info.h"

namespace uwserve {

namespace {

PyObject *text_or_none(std::string_view text) { return text.empty() ? Py_NewRef(Py_None) : make_latin1(text); }

PyObject *describe(const TlsInfo &info) {
    const std::string &der = info.peer_certificate;
    Ref name = Ref::steal(text_or_none(info.server_name)), protocol = Ref::steal(text_or_none(info.alpn));
    Ref certificate = der.empty() ? Ref::borrow(Py_None) : Ref::steal(make_bytes(der));
    Ref problem = Ref::steal(text_or_none(info.verify_error ? info.verify_error : ""));
    if (!name || !protocol || !certificate || !problem) return nullptr;
    return guarded<Py_BuildValue>("{s:s,s:s,s:O,s:O,s:O,s:O,s:O,s:O}", "version", info.version, "cipher", info.cipher,
                                  "server_name", name.get(), "alpn_protocol", protocol.get(), "peer_certificate",
                                  certificate.get(), "authorized",
                                  !der.empty() && !info.verify_error ? Py_True : Py_False, "authorization_error",
                                  problem.get(), "session_reused", info.resumed ? Py_True : Py_False);
}

}  // namespace

PyObject *get_request_tls(PyObject *object, void *) {
    auto *self = reinterpret_cast<RequestObject *>(object);
    if (self->tls) return Py_NewRef(self->tls);
    if (!self->conn) Py_RETURN_NONE;
    if (!self->core->check_loop_thread("Request.tls")) return nullptr;
    const std::optional<TlsInfo> info = tls_info_of(*self->conn);
    if (!info) Py_RETURN_NONE;
    self->tls = describe(*info);
    return Py_XNewRef(self->tls);
}

}  // namespace uwserve
