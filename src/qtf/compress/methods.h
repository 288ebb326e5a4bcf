// The ways to compress a trained map: one table, from which the command line, the reports and the benchmarks
// are made.
#pragma once

#include <string_view>
#include <vector>

#include "qtf/tt/weight_shape.h"

namespace qtf::compress {

struct Method {
  std::string_view name;
  std::string_view summary;
  tt::ShapeKind kind = tt::ShapeKind::chain;
  bool inputs = false;       ///< errors are weighted by what passes through the map (whitening)
  bool sensitivity = false;  ///< … and by how much the loss minds them (Fisher information)
  bool sequential = false;   ///< each map makes good for the errors of those before it
  bool allocate = false;  ///< ranks by predicted loss over the whole model; else the same share for every map
  bool gauge = false;     ///< the bonds' free parameters are fixed and not stored
};

const std::vector<Method>& methods();

/// Throws InputError with the names that exist and the nearest.
const Method& find_method(std::string_view name);

}  // namespace qtf::compress
