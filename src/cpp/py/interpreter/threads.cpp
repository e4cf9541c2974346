#include "py/interpreter/threads.h"

#include "py/interpreter/objects.h"

namespace uwserve {

namespace {

// The name of the running Python thread with that ident; "" if there is none or anything fails.
std::string name_of(unsigned long ident) {
    Ref threading = Ref::steal(guarded<PyImport_ImportModule>("threading"));
    Ref all = threading ? call_method(threading.get(), "enumerate") : Ref();
    if (!all || !PyList_Check(all.get())) return {};
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all.get()); i++) {
        Ref id = get_attribute(PyList_GET_ITEM(all.get(), i), "ident");
        if (!id || !PyLong_Check(id.get()) || PyLong_AsUnsignedLong(id.get()) != ident) continue;
        Ref name = get_attribute(PyList_GET_ITEM(all.get(), i), "name");
        const char *text = name && PyUnicode_Check(name.get()) ? PyUnicode_AsUTF8(name.get()) : nullptr;
        return text ? text : "";
    }
    return {};
}

}  // namespace

std::string describe_thread(unsigned long ident) {
    SavedError error;
    std::string name = name_of(ident);
    PyErr_Clear();
    std::string id = std::to_string(ident);
    return name.empty() ? "thread " + id : "'" + name + "' (id " + id + ")";
}

}  // namespace uwserve
