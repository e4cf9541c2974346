#include "py/interpreter/exception_barrier.h"

#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>

namespace uwserve {

void set_python_error() {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
    } catch (const std::length_error &) {
        PyErr_NoMemory();
    } catch (const std::system_error &error) {
        errno = error.code().value();
        PyErr_SetFromErrno(PyExc_OSError);
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
}

}  // namespace uwserve
