// A block's forward for few rows, shared by a team: what a decoded token costs. Products are split by
// columns, attention by key heads and sequences, with a barrier after each. nn/block.h's block_forward is the
// same computation on one thread for any number of rows; both give the same bits.
#pragma once

#include <span>

#include "qtf/nn/block.h"

namespace qtf::nn {

/// The activations of a pass that all members see. Blocks use them one after the other.
template <class T>
struct TeamActivations {
  Matrix<T> qkv, attended, x_mid, up, hidden;
  T* shared = nullptr;  ///< of maps, see LinearMap::forward_columns
  T* nats = nullptr;    ///< [rows, heads] entropies of attention, where a pass asks for them
};

/// For `rows` rows of any of these blocks, in `arena`.
template <class T>
TeamActivations<T> make_team_activations(std::span<const Block<T>> blocks, const BlockSpec<T>& spec,
                                         int64_t rows, int64_t width, Arena& arena);

/// y[rows, D] = block(x) for segments with caches: all members call it with the same arguments, but each with
/// its own scratch, and pass.team as its place. x and y are complete after a barrier: x before the call, y
/// when it returns.
template <class T>
void block_decode(const Block<T>& block, const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer,
                  ConstMatrix<T> x, Matrix<T> y, const TeamActivations<T>& activations, Arena& scratch);

/// y[M, out] = x[M, in]·Wᵀ + bias: the columns team.part(out, kColumnGrain), see LinearMap::forward_columns.
template <class T>
void linear_columns(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& team,
                    T* shared, Arena& scratch);

}  // namespace qtf::nn
