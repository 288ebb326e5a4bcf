// How a linear map W[out, in] is stored: the table of weight shapes, their sizes and their text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qtf::tt {

enum class ShapeKind { dense, chain, mpo, btt };

/// One linear map's shape. Which fields apply depends on the kind:
/// | kind  | modes                                                        | ranks                          |
/// | dense | none                                                         | none                           |
/// | chain | out_modes (p), in_modes (q), order [out modes | in modes]    | p + q - 1 bonds; the p-th is the centre |
/// | mpo   | out_modes, in_modes (d each), interleaved                    | d - 1 bonds                    |
/// | btt   | out_modes {n_outer, n_inner}, in_modes {m_outer, m_inner}    | one                            |
struct WeightShape {
  ShapeKind kind = ShapeKind::dense;
  int64_t out = 0;
  int64_t in = 0;
  std::vector<int64_t> out_modes;
  std::vector<int64_t> in_modes;
  std::vector<int64_t> ranks;
  /// chain only: centre ranks of the nested levels, increasing, the last equal to the centre rank.
  /// Empty: one level. Level numbers are 1 (smallest) to size().
  std::vector<int64_t> levels;

  bool operator==(const WeightShape&) const = default;
};

/// One stored tensor of a shape.
struct CoreSpec {
  std::string suffix;            ///< of the tensor's name in the file: "weight" (dense), "core.0", "core.1", …
  std::vector<int64_t> dims;     ///< row-major
  int64_t fan_in = 0;            ///< (rank × mode) entries summed over when this core is applied
  int64_t fan_out = 0;
};

}  // namespace qtf::tt
