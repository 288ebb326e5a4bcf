#include "qtf/base/error.h"
#include "qtf/python/bindings.h"

PYBIND11_MODULE(_qtf, module) {
  namespace py = pybind11;
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const qtf::InputError& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const qtf::IoError& error) {
      PyErr_SetString(PyExc_OSError, error.what());
    }
  });
  qtf::python::bind_models(module);
  qtf::python::bind_circuits(module);
  qtf::python::bind_commands(module);
  module.attr("__version__") = QTF_VERSION;
}
