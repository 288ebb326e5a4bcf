// The extension module `qtf._qtf`, a file a concern. The package around it lies in qtf/: commands.py makes a
// function of every command, _qtf.pyi says what the module holds.
#pragma once

#include <pybind11/pybind11.h>

namespace qtf::python {

namespace py = pybind11;

void bind_circuits(py::module_& module);
void bind_commands(py::module_& module);
void bind_models(py::module_& module);

}  // namespace qtf::python
