#include "py/websocket/payload.h"

#include <cstring>

#include "py/interpreter/objects.h"

namespace uwserve {

bool Payload::read(PyObject *object, PayloadKind kind, const char *what) {
    if (PyBytes_CheckExact(object) && kind != PayloadKind::kText) [[likely]] {
        view_ = {PyBytes_AS_STRING(object), static_cast<size_t>(PyBytes_GET_SIZE(object))};
    } else if (PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object) && kind != PayloadKind::kBinary) {
        view_ = {static_cast<const char *>(PyUnicode_DATA(object)), static_cast<size_t>(PyUnicode_GET_LENGTH(object))};
        is_text_ = true;
    } else if (PyUnicode_Check(object) && kind != PayloadKind::kBinary) {
        if (!read_text(object, what, &view_)) return false;  // lone surrogates
        is_text_ = true;
    } else if (!read_buffer(object, kind, what)) {
        return false;
    }
    if (view_.size() > kMaxMessageBytes) [[unlikely]] {
        PyErr_Format(PyExc_ValueError, "%s must not be over %zu bytes, got %zu", what, kMaxMessageBytes, view_.size());
        return false;
    }
    return true;
}

bool Payload::read_buffer(PyObject *object, PayloadKind kind, const char *what) {
    if (kind == PayloadKind::kText || PyUnicode_Check(object) || !PyObject_CheckBuffer(object)) {
        static constexpr const char *expected[] = {"str or a bytes-like object", "str", "a bytes-like object"};
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %.200s", what, expected[static_cast<int>(kind)],
                     Py_TYPE(object)->tp_name);
        return false;
    }
    if (guarded<PyObject_GetBuffer>(object, &buffer_, PyBUF_SIMPLE) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_BufferError)) return false;
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s must be a C-contiguous buffer", what);
        return false;
    }
    has_buffer_ = true;
    view_ = {static_cast<const char *>(buffer_.buf), static_cast<size_t>(buffer_.len)};
    return true;
}

PyObject *decode_text(std::string_view utf8, bool is_ascii) {
    // CPython has strings of one character ready.
    if (!is_ascii || utf8.size() < 2) {
        return make_utf8(utf8);
    }
    PyObject *text = PyUnicode_New(static_cast<Py_ssize_t>(utf8.size()), 127);
    if (text) memcpy(PyUnicode_DATA(text), utf8.data(), utf8.size());
    return text;
}

size_t message_bytes(PyObject *message) {
    if (PyUnicode_Check(message))
        return static_cast<size_t>(PyUnicode_GET_LENGTH(message)) * static_cast<size_t>(PyUnicode_KIND(message));
    if (PyBytes_Check(message)) return static_cast<size_t>(PyBytes_GET_SIZE(message));
    return PyByteArray_Check(message) ? static_cast<size_t>(PyByteArray_GET_SIZE(message)) : 0;
}

bool read_text(PyObject *object, const char *name, std::string_view *text) {
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %.200s", name, Py_TYPE(object)->tp_name);
        return false;
    }
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(object, &size);
    if (utf8) *text = {utf8, static_cast<size_t>(size)};
    return utf8 != nullptr;
}

bool read_topic(PyObject *object, std::string_view *topic) {
    if (!read_text(object, "topic", topic)) return false;
    if (!topic->empty() && topic->size() <= 65535) return true;
    PyErr_Format(PyExc_ValueError,
                 topic->empty() ? "topic must not be empty" : "topic must not be over 65,535 bytes, got %zu",
                 topic->size());
    return false;
}

}  // namespace uwserve
