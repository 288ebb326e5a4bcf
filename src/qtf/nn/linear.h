// A linear layer: a weight map of any shape and, in the GPT-2 family, a bias.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include "qtf/nn/level_rows.h"
#include "qtf/tt/linear_map.h"

namespace qtf::nn {

/// Where a layer's gradients go is an offset, because every worker has its own gradient buffer.
constexpr int64_t kNoGradient = -1;

/// y = x·Wᵀ + bias. The weights live in the model's parameter vector; this only points there.
template <class T>
struct Linear {
  std::unique_ptr<tt::LinearMap<T>> map;
  const T* bias = nullptr;             ///< [out], or null
  int64_t map_gradient = kNoGradient;  ///< of the map's factors
  int64_t bias_gradient = kNoGradient;

  int64_t out() const { return map->shape().out; }
  int64_t in() const { return map->shape().in; }
  bool has_levels() const { return !map->shape().levels.empty(); }
  /// `level` where this map has levels, else its only one; its largest where it has fewer.
  int level(int level) const { return has_levels() ? std::min(level, tt::level_count(map->shape())) : 0; }
};

/// y[M, out] = x[M, in]·Wᵀ + bias. saved: map->saved_size(M) numbers for backward, or null.
template <class T>
void linear_forward(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, T* saved, int level,
                    Arena& scratch);

/// dx = or += dy·W (skipped if dx.data is null); gradients of map and bias are added to `gradients`.
template <class T>
void linear_backward(const Linear<T>& layer, ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved,
                     Matrix<T> dx, Into into_dx, T* gradients, int level, Arena& scratch);

/// The same for rows at several levels. `saved` is as large, and one level's rows alone give the same bits.
template <class T>
void linear_forward(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, T* saved,
                    std::span<const LevelGroup> groups, Arena& scratch);
template <class T>
void linear_backward(const Linear<T>& layer, ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved,
                     Matrix<T> dx, Into into_dx, T* gradients, std::span<const LevelGroup> groups,
                     Arena& scratch);

}  // namespace qtf::nn
