// Chains with a fixed gauge. W = U·V stays when U·T and T⁻¹·V take the factors' place, for any invertible T:
// of the numbers in the two, rank² are free. Fixing them saves storing them: some columns of V, the pivots,
// become columns of the identity. With nested levels T is block-diagonal, a block a level, so that every
// level's W stays; the saving is then the sum of the blocks' squares.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/tt/weight_shape.h"

namespace qtf::tt {

/// Whether a shape's gauge can be fixed and is not: a chain with one mode a side whose rank is below its `in`
/// width.
bool can_fix_gauge(const WeightShape& shape);

/// Numbers that fixing the gauge saves: the sum of the bond blocks' squares, 0 where it cannot be fixed.
int64_t gauge_size(const WeightShape& shape);

/// A chain whose gauge is fixed.
template <class T>
struct FixedChain {
  WeightShape shape;       ///< with pivots
  AlignedVector<T> cores;  ///< end to end
};

/// The same function with fewer numbers: each level's W differs by rounding only. `cores` are all numbers of
/// the shape, which can_fix_gauge, or has the pivots to use. Else they are chosen for a large volume (full
/// pivoting, then exchanges), so that no stored number of V is above 1.5 in magnitude.
template <class T>
FixedChain<T> fix_gauge(const WeightShape& shape, const T* cores);

/// The shape with all its numbers.
WeightShape with_free_gauge(WeightShape shape);

/// cores (of with_free_gauge(shape)) from those of a shape with pivots: the identity's columns put in.
template <class T>
void free_gauge(const WeightShape& shape, const T* fixed, T* cores);

/// The same function with the gauge that training goes on from: within each level's addition U's columns and
/// V's rows are orthogonal and ‖uᵢ‖ = ‖vᵢ‖, in place. `cores` are all numbers of a shape without pivots and
/// with one mode a side. (Steps from the identity's columns lose more than they win: docs/compression.md.)
template <class T>
void balance_gauge(const WeightShape& shape, T* cores);

/// The same function with the gauge whose numbers are best rounded to few bits, in place, from a balanced
/// one: within each level's addition the factors are turned by an orthogonal matrix, the cosine transform,
/// which spreads large columns over all. What rounding then loses of W is, at any decay of its singular
/// values, no larger a share than of a dense matrix, for each factor: Σσ ≤ √(rank·Σσ²).
template <class T>
void spread_gauge(const WeightShape& shape, T* cores);

/// The stored numbers' gradient from that of all numbers (overwritten).
template <class T>
void gauge_gradient(const WeightShape& shape, const T* dcores, T* dfixed);

/// The parts of the bond: [begin, end) of each level's addition, the whole rank where there are no levels.
std::vector<std::pair<int64_t, int64_t>> bond_blocks(const WeightShape& shape);

}  // namespace qtf::tt
