// Numbers in numpy's arrays, where they lie: checked, never copied or converted in silence.
#pragma once

#include <fmt/format.h>
#include <pybind11/numpy.h>

#include <complex>
#include <string_view>
#include <type_traits>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/tensor/matrix.h"

namespace qtf::python {

namespace py = pybind11;

template <class T>
constexpr const char* kTypeName = std::is_same_v<T, float>                  ? "float32"
                                  : std::is_same_v<T, double>               ? "float64"
                                  : std::is_same_v<T, std::complex<double>> ? "complex128"
                                                                            : "complex64";

inline std::string type_name(const py::handle& object) {
  if (py::isinstance<py::array>(object)) return py::str(object.attr("dtype"));
  return py::str(py::type::of(object).attr("__name__"));
}

inline std::string shape_text(const py::array& array) {
  return py::str(array.attr("shape"));
}

inline bool holds(const py::handle& object, const py::dtype& dtype) {
  return py::isinstance<py::array>(object) && dtype.equal(object.attr("dtype"));
}

/// The array itself if it holds Ts that lie one behind the other. `what`: "[run] inputs", for errors.
template <class T>
py::array checked_array(const py::handle& object, std::string_view what) {
  if (!holds(object, py::dtype::of<T>()))
    throw InputError(fmt::format("{} must be a numpy array of {}, got {}; numpy.asarray(x, '{}') makes one",
                                 what, kTypeName<T>, type_name(object), kTypeName<T>));
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
    throw InputError(
        fmt::format("{} must begin at a multiple of {} bytes; numpy.copy(x) does", what, sizeof(T)));
  if (!(array.flags() & py::array::c_style))
    throw InputError(
        fmt::format("{} must lie in memory row after row, got strides {} of shape {}; make it so with "
                    "numpy.ascontiguousarray",
                    what, std::string(py::str(array.attr("strides"))), shape_text(array)));
  return array;
}

/// Rows of `cols` numbers: an array [rows, cols], or [cols] for one row.
template <class T>
ConstMatrix<T> rows_of(const py::array& array, int64_t cols, std::string_view what) {
  const auto n = array.ndim();
  if ((n != 1 && n != 2) || array.shape(n - 1) != cols)
    throw InputError(fmt::format("{} must have the shape (rows, {}), or ({},) for one row, got {}", what,
                                 cols, cols, shape_text(array)));
  return {static_cast<const T*>(array.data()), n == 1 ? 1 : array.shape(0), cols};
}

}  // namespace qtf::python
