// A tensor train's contraction to one array and back: what makes factors of cores, and a gradient of cores
// from the factors'. Every step is one product.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/base/arena.h"

namespace qtf::tt {

/// Cores G_1 … G_d end to end; G_k is (r_{k-1}, s_k, r_k), row-major.
struct Train {
  std::vector<int64_t> sizes;  ///< s_1 … s_d
  std::vector<int64_t> ranks;  ///< r_0 … r_d

  int64_t core_size(size_t k) const { return ranks[k] * sizes[k] * ranks[k + 1]; }
  /// Numbers in all cores.
  int64_t parameters() const;
  /// Numbers in the contracted array, r_0·s_1⋯s_d·r_d.
  int64_t contracted_size() const;
};

/// Where a sweep starts. The result is the same; begin at the end whose outer rank is small.
enum class Sweep { from_left, from_right };

/// result(r_0, s_1, …, s_d, r_d) = G_1·G_2⋯G_d (overwritten).
template <class T>
void contract(const Train& train, Sweep sweep, const T* cores, T* result, Arena& scratch);

/// dcores = the gradient of contract()'s cores (overwritten) from its result's.
template <class T>
void contract_backward(const Train& train, Sweep sweep, const T* cores, const T* dresult, T* dcores,
                       Arena& scratch);

/// Cores of the train nearest to tensor(r_0, s_1, …, s_d, r_d) by successive truncated SVDs from the left
/// (TT-SVD: Oseledets, SIAM J. Sci. Comput. 33, 2011), all scaled to the same norm. The order of r_0 and of
/// r_d is kept. Exact where the ranks are full.
template <class T>
void tt_svd(const Train& train, const T* tensor, T* cores);

}  // namespace qtf::tt
