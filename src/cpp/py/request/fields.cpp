#include "py/request/fields.h"

#include <algorithm>

#include "py/interpreter/objects.h"

namespace uwserve {

namespace {

constexpr size_t kMaxLengthDigits = 18;

bool latin1(PyObject *object, const char *what, std::string *out) {
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a header %s must be str, not %.200s", what, Py_TYPE(object)->tp_name);
        return false;
    }
    Ref bytes = Ref::steal(PyUnicode_AsLatin1String(object));
    if (!bytes) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "a header %s must be latin-1 text, got %R", what, object);
        return false;
    }
    out->assign(PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get())));
    return true;
}

bool is_value(std::string_view value) {
    return std::none_of(value.begin(), value.end(),
                        [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

}  // namespace

// The field is not sent as it is: the core writes it if the response may have it.
bool FieldList::read_content_length(PyObject *object, std::string_view value) {
    bool is_number = !value.empty() && value.size() <= kMaxLengthDigits &&
                     value.find_first_not_of("0123456789") == std::string_view::npos;
    uint64_t length = 0;
    for (char c : is_number ? value : std::string_view()) length = length * 10 + static_cast<uint64_t>(c - '0');
    if (!is_number || (content_length_ && *content_length_ != length)) {
        PyErr_Format(PyExc_ValueError, "header 'Content-Length' must be one number of at most 18 digits, got %R",
                     object);
        return false;
    }
    content_length_ = length;
    return true;
}

bool FieldList::add(PyObject *name_object, PyObject *value_object, For purpose) {
    std::string name, value;
    if (!latin1(name_object, "name", &name) || !latin1(value_object, "value", &value)) return false;
    if (!is_token(name)) {
        PyErr_Format(PyExc_ValueError, "malformed header name %R", name_object);
        return false;
    }
    if (!is_value(value)) {
        PyErr_Format(PyExc_ValueError, "header %R must not contain CR, LF, NUL or other control characters",
                     name_object);
        return false;
    }
    auto is = [&name](std::string_view lower_case) { return equals_ignoring_case(name, lower_case); };
    if (purpose == For::kUpgrade) {
        if (is("sec-websocket-protocol")) {
            bool valid = true;
            for_each_element(value, [&](std::string_view element) {
                valid = valid && is_token(element);
                protocols_.emplace_back(element);
            });
            if (!valid)
                PyErr_Format(PyExc_ValueError, "header %R is a list of tokens (RFC 6455 4.2.2), got %R", name_object,
                             value_object);
            return valid;
        }
        if (is("upgrade") || is("connection") || is("content-length") || is("transfer-encoding") || is("date") ||
            equals_ignoring_case(std::string_view(name).substr(0, 14), "sec-websocket-")) {
            PyErr_Format(PyExc_ValueError, "header %R belongs to the handshake and can't be set", name_object);
            return false;
        }
    } else {
        if (is("content-length")) return read_content_length(value_object, value);
        if (is("transfer-encoding") || is("date")) return true;  // written by the core or by uWebSockets
        if (is("connection")) {
            for_each_element(value,
                             [&](std::string_view token) { wants_close_ |= equals_ignoring_case(token, "close"); });
            return true;
        }
    }
    owned_.emplace_back(std::move(name), std::move(value));
    views_.emplace_back(owned_.back().first, owned_.back().second);
    return true;
}

bool FieldList::read(PyObject *object, For purpose) {
    if (!object || object == Py_None) return true;
    Ref items;
    if (PyUnicode_Check(object) || PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "headers must be a mapping or pairs of str, not %.200s",
                     Py_TYPE(object)->tp_name);
        return false;
    }
    if (guarded<PyObject_HasAttrString>(object, "items")) {
        items = call_method(object, "items");
    } else {
        items = Ref::borrow(object);
    }
    Ref sequence =
        items ? Ref::steal(guarded<PySequence_Fast>(items.get(), "headers must be a mapping or pairs of str")) : Ref();
    if (!sequence) return false;
    // The size is read each time: nothing here runs user code, but a list stays the caller's.
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence.get()); i++) {
        Ref pair = Ref::steal(
            guarded<PySequence_Fast>(PySequence_Fast_GET_ITEM(sequence.get(), i), "headers must be pairs of str"));
        if (!pair) return false;
        if (PySequence_Fast_GET_SIZE(pair.get()) != 2) {
            PyErr_SetString(PyExc_TypeError, "headers must be pairs of a name and a value");
            return false;
        }
        if (!add(PySequence_Fast_GET_ITEM(pair.get(), 0), PySequence_Fast_GET_ITEM(pair.get(), 1), purpose))
            return false;
    }
    return true;
}

}  // namespace uwserve
