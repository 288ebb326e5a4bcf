#include "qtf/tt/chain.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/tensor/gemm_columns.h"
#include "qtf/tensor/svd.h"
#include "qtf/tt/gauge.h"
#include "qtf/tt/shape_rules.h"

namespace qtf::tt {

namespace {

constexpr ProductNames kProducts{"chain, forward", "chain, input gradient", "chain, weight gradient"};

std::vector<int64_t> all_modes(const WeightShape& shape) {
  std::vector<int64_t> sizes = shape.out_modes;
  sizes.insert(sizes.end(), shape.in_modes.begin(), shape.in_modes.end());
  return sizes;
}

/// Every bond's rank for a centre rank, the outer bonds as large as they can be but at most `outer`.
std::vector<int64_t> bond_ranks(const WeightShape& shape, int64_t rank, int64_t outer) {
  std::vector<int64_t> ranks;
  const auto add = [&](std::span<const int64_t> outside, std::span<const int64_t> inside) {
    ranks.push_back(std::min({outer, product(outside), product(inside) * rank}));
  };
  const std::span<const int64_t> out(shape.out_modes), in(shape.in_modes);
  for (size_t k = 1; k < out.size(); ++k) add(out.first(k), out.subspan(k));
  ranks.push_back(rank);
  for (size_t k = 1; k < in.size(); ++k) add(in.subspan(k), in.first(k));
  return ranks;
}

constexpr int64_t kNoLimit = INT32_MAX;

// Rows that pass both products before the next: what lies between is read from cache. A whole number of the
// product's row blocks.
constexpr int64_t kRowsInCache = 96;

int64_t full_rank(const WeightShape& shape) {
  return std::min(shape.out, shape.in);
}

std::string size_text(const WeightShape& shape) {
  return fmt::format("a {} x {} map", shape.out, shape.in);
}

void set_options(WeightShape& shape, const ShapeOptions& options) {
  shape.out_modes = options.list("out", {shape.out});
  shape.in_modes = options.list("in", {shape.in});
  check_modes("out", shape.out_modes, shape.out);
  check_modes("in", shape.in_modes, shape.in);
  const auto rank = options.number("rank"), outer = options.number("outer");
  if (options.has("ranks") == rank.has_value())
    throw_input_error("shape", "chain needs either rank=R or ranks=AxB, one a bond");
  if (outer && (options.has("ranks") || (shape.out_modes.size() == 1 && shape.in_modes.size() == 1)))
    throw_input_error("shape", "outer limits the bonds between several modes; give out= or in=, and rank=");
  if (rank) check_rank(*rank, full_rank(shape), size_text(shape));
  shape.ranks = rank ? bond_ranks(shape, *rank, outer.value_or(kNoLimit)) : options.list("ranks", {});
  shape.levels = options.list("levels", {});
  shape.pivots = options.list("pivots", {});
  for (int64_t& pivot : shape.pivots) --pivot;
}

std::string ranks_text(const WeightShape& shape) {
  const int64_t rank = level_rank(shape, 0);
  if (shape.ranks == bond_ranks(shape, rank, kNoLimit)) return fmt::format("rank={}", rank);
  int64_t outer = 1;
  for (size_t k = 0; k < shape.ranks.size(); ++k)
    if (k != shape.out_modes.size() - 1) outer = std::max(outer, shape.ranks[k]);
  if (shape.ranks == bond_ranks(shape, rank, outer)) return fmt::format("rank={},outer={}", rank, outer);
  return fmt::format("ranks={}", modes_text(shape.ranks));
}

std::string options_text(const WeightShape& shape) {
  std::string text = ranks_text(shape);
  if (shape.out_modes.size() > 1) text += fmt::format(",out={}", modes_text(shape.out_modes));
  if (shape.in_modes.size() > 1) text += fmt::format(",in={}", modes_text(shape.in_modes));
  if (!shape.levels.empty()) text += fmt::format(",levels={}", modes_text(shape.levels));
  if (shape.pivots.empty()) return text;
  std::vector<int64_t> from_one = shape.pivots;
  for (int64_t& pivot : from_one) ++pivot;
  return text + fmt::format(",pivots={}", modes_text(from_one));
}

/// One pivot for each index of the bond, increasing in each level's addition.
void check_pivots(const WeightShape& shape) {
  if (shape.pivots.empty()) return;
  const int64_t rank = level_rank(shape, 0);
  if (shape.out_modes.size() > 1 || shape.in_modes.size() > 1)
    throw_input_error("shape", "pivots are for chains with one mode a side; leave out= and in= out");
  if (static_cast<int64_t>(shape.pivots.size()) != rank || rank >= shape.in)
    throw_input_error("shape", "pivots must be as many as the rank {} and fewer than the {} inputs, got {}",
                      rank, shape.in, shape.pivots.size());
  int64_t begin = 0;
  for (int64_t r = 0; r < rank; ++r) {
    const int64_t pivot = shape.pivots[static_cast<size_t>(r)];
    if (std::find(shape.levels.begin(), shape.levels.end(), r) != shape.levels.end()) begin = r;
    if (pivot >= shape.in || pivot < 0 || (r > begin && pivot <= shape.pivots[static_cast<size_t>(r - 1)]))
      throw_input_error("shape", "pivots must increase within a level and be 1 to {}, got {} as number {}",
                        shape.in, pivot + 1, r + 1);
  }
}

void check(const WeightShape& shape) {
  check_modes("out", shape.out_modes, shape.out);
  check_modes("in", shape.in_modes, shape.in);
  check_bonds(all_modes(shape), shape.ranks);
  check_rank(level_rank(shape, 0), full_rank(shape), size_text(shape));
  check_pivots(shape);
}

/// U whole, then each level's addition to V without the columns of its pivots.
std::vector<CoreSpec> fixed_chain_cores(const WeightShape& shape) {
  const int64_t rank = level_rank(shape, 0);
  std::vector<CoreSpec> result{
      {.suffix = "core.0", .dims = {1, shape.out, rank}, .fan_in = rank, .fan_out = shape.out}};
  for (const auto& [begin, end] : bond_blocks(shape))
    result.push_back({.suffix = fmt::format("core.{}", result.size()),
                      .dims = {end - begin, shape.in - (end - begin)},
                      .fan_in = shape.in,
                      .fan_out = end - begin});
  return result;
}

std::vector<CoreSpec> chain_cores(const WeightShape& shape) {
  if (!shape.pivots.empty()) return fixed_chain_cores(shape);
  std::vector<CoreSpec> result;
  const std::vector<int64_t> sizes = all_modes(shape);
  for (size_t k = 0; k < sizes.size(); ++k) {
    const int64_t left = k == 0 ? 1 : shape.ranks[k - 1];
    const int64_t right = k + 1 == sizes.size() ? 1 : shape.ranks[k];
    // Applied from the right: an input core sums over its mode, an output core makes it.
    const bool is_out = k < shape.out_modes.size();
    result.push_back({.suffix = fmt::format("core.{}", k),
                      .dims = {left, sizes[k], right},
                      .fan_in = is_out ? right : sizes[k] * right,
                      .fan_out = is_out ? left * sizes[k] : left});
  }
  return result;
}

/// The identity's columns of a fixed gauge cost nothing.
int64_t direct_macs(const WeightShape& shape, int level) {
  const int64_t rank = level_rank(shape, level);
  int64_t macs = rank * (shape.in + shape.out);
  if (shape.pivots.empty()) return macs;
  for (const auto& [begin, end] : bond_blocks(shape))
    if (end <= rank) macs -= (end - begin) * (end - begin);
  return macs;
}

WeightShape with_parameters(WeightShape shape, int64_t max_parameters) {
  shape.out_modes = {shape.out};
  shape.in_modes = {shape.in};
  shape.ranks = {std::clamp<int64_t>(max_parameters / (shape.in + shape.out), 1, full_rank(shape))};
  return shape;
}

}  // namespace

const ShapeRules& chain_rules() {
  static const ShapeRules rules{
      .info = {.kind = ShapeKind::chain,
               .name = "chain",
               .summary =
                   "tensor train, output modes before input modes; its centre rank R has nested levels",
               .options = "rank=R[,out=AxB][,in=AxB][,outer=S][,levels=AxBxR] (or ranks=AxB, one a bond)"},
      .keys = {"rank", "out", "in", "outer", "ranks", "levels", "pivots"},
      .set_options = set_options,
      .options_text = options_text,
      .check = check,
      .cores = chain_cores,
      .is_rebuilt =
          [](const WeightShape& s) { return s.levels.size() <= 1 && direct_macs(s, 0) > s.in * s.out; },
      .direct_macs = direct_macs,
      .with_parameters = with_parameters,
  };
  return rules;
}

ChainHalves::ChainHalves(const WeightShape& shape) {
  if (!shape.pivots.empty()) fixed = shape;
  const auto centre = static_cast<std::ptrdiff_t>(shape.out_modes.size()) - 1;
  out.sizes = shape.out_modes;
  out.ranks.assign(shape.ranks.begin(), shape.ranks.begin() + centre + 1);
  out.ranks.insert(out.ranks.begin(), 1);
  in.sizes = shape.in_modes;
  in.ranks.assign(shape.ranks.begin() + centre, shape.ranks.end());
  in.ranks.push_back(1);
}

template <class T>
ChainMap<T>::ChainMap(WeightShape shape) : LinearMap<T>(shape), halves_(shape) {
  if (halves_.fixed) fixed_inputs_ = FixedInputs<T>(*halves_.fixed);
}

template <class T>
bool ChainMap<T>::factors_are_cores() const {
  return !halves_.fixed && halves_.out.sizes.size() == 1 && halves_.in.sizes.size() == 1;
}

template <class T>
void ChainMap<T>::prepare(const T* cores, Use use) {
  const int64_t out = this->shape().out, rank = halves_.rank();
  if (!factors_are_cores()) {
    factors_.resize(static_cast<size_t>(factor_size()));
    halves_.to_factors(cores, factors_.data(), workspace_);
  }
  u_ = factors_are_cores() ? cores : factors_.data();
  v_ = u_ + out * rank;
  const ConstMatrix<T> u(u_, out, rank);
  u_transposed_.pack(u.transposed());
  if (!fixed_inputs_.empty()) fixed_inputs_.prepare(cores + out * rank);
  if (fixed_inputs_.empty() || use == Use::training)
    v_transposed_.pack(v(rank).transposed());
  else
    v_transposed_ = {};
  if (use == Use::inference) {
    u_packed_ = {}, v_packed_ = {};  // of weights that are gone
    return;
  }
  u_packed_.pack(u);
  v_packed_.pack(v(rank));
}

// Both factors stay codes. Only looking up rows multiplies by V as it is: an embedding writes it out, V being
// small beside U there.
template <class T>
void ChainMap<T>::prepare_quantized(const QuantizedCores& cores) {
  const bool one_mode = halves_.out.sizes.size() == 1 && halves_.in.sizes.size() == 1;
  if constexpr (std::is_same_v<T, float>) {
    if (one_mode) {
      u_ = v_ = nullptr;
      u_packed_ = {}, v_packed_ = {};
      u_codes_ = cores.cores[0];
      u_transposed_.pack_transposed(u_codes_);
      if (fixed_inputs_.empty())
        v_transposed_.pack_transposed(cores.cores[1]);
      else
        fixed_inputs_.prepare_quantized(std::span(cores.cores).subspan(1));
      factors_ = {};
      if (cores.gathers) write_v_out(std::span(cores.cores).subspan(1));
      return;
    }
  }
  LinearMap<T>::prepare_quantized(cores);
}

/// v_ = V of its cores: with a fixed gauge, of each level's addition without the pivots' columns.
template <class T>
void ChainMap<T>::write_v_out(std::span<const QuantizedMatrix> cores) {
  const int64_t rank = halves_.rank(), in = this->shape().in;
  factors_.assign(static_cast<size_t>(rank * in), T{0});
  v_ = factors_.data();
  if constexpr (std::is_same_v<T, float>) {
    if (!halves_.fixed) return cores[0].decode(factors_.data());
    AlignedVector<float> stored, all(static_cast<size_t>(factor_size()));
    stored.resize(static_cast<size_t>(parameters(*halves_.fixed)));
    float* to = stored.data() + this->shape().out * rank;
    for (const QuantizedMatrix& core : cores) {
      core.decode(to);
      to += core.rows * core.cols;
    }
    free_gauge(*halves_.fixed, stored.data(), all.data());
    std::copy(all.begin() + this->shape().out * rank, all.end(), factors_.begin());
  }
}

template <class T>
void ChainMap<T>::first_product(ConstMatrix<T> x, Matrix<T> z, Arena& scratch) const {
  if (fixed_inputs_.empty())
    gemm(x, v_transposed_, z);
  else
    fixed_inputs_.forward(x, z, scratch);
}

template <class T>
void ChainMap<T>::forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t rank = level_rank(this->shape(), level);
  const Matrix<T> z(saved ? saved : scratch.allocate<T>(x.rows * rank), x.rows, rank);
  const ProfileScope profile(kProducts.forward, product_flops(x.rows, rank, x.cols + y.cols));
  for (int64_t first = 0; first < x.rows; first += kRowsInCache) {
    const int64_t rows = std::min(kRowsInCache, x.rows - first);
    const Matrix<T> part = z.row_block(first, rows);
    first_product(x.row_block(first, rows), part, scratch);
    gemm<T>(part, u_transposed_, y.row_block(first, rows));
  }
}

template <class T>
void ChainMap<T>::forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                                  Arena& scratch) const {
  const int64_t rank = level_rank(this->shape(), level);
  const Matrix<T> z(shared, x.rows, rank);
  const double members = member.size();
  const ProfileScope profile(kProducts.forward, product_flops(x.rows, rank, x.cols + y.cols) / members);
  if (fixed_inputs_.empty())
    gemm_columns(x, v_transposed_, z, member.part(rank, kColumnGrain));
  else
    fixed_inputs_.forward_columns(x, z, member, scratch);
  member.barrier();
  gemm_columns<T>(z, u_transposed_, y, member.part(y.cols, kColumnGrain));
}

// The rows that have a block of the bond come first, so they are a prefix of the rows too.
template <class T>
void ChainMap<T>::forward_level_columns(ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                                        TeamMember& member, T* shared, Arena& scratch) const {
  const auto blocks = bond_blocks(this->shape());
  const auto rows_with = [&](int64_t end) {
    int64_t rows = 0;
    for (const LevelGroup& group : groups)
      if (level_rank(this->shape(), group.level) >= end) rows = group.first + group.rows;
    return rows;
  };
  const Matrix<T> z(shared, x.rows, halves_.rank());
  const ProfileScope profile(kProducts.forward);
  const Range own = member.part(z.cols, kColumnGrain);
  for (size_t b = 0; b < blocks.size(); ++b) {
    const auto [begin, end] = blocks[b];
    const int64_t rows = rows_with(end);
    if (rows == 0) break;
    if (!fixed_inputs_.empty()) {
      fixed_inputs_.forward_block_columns(b, x.row_block(0, rows), z.row_block(0, rows), member, scratch);
      continue;
    }
    // Whole grains, so that a column that two blocks share is one member's.
    const Range part{std::max(own.begin, begin / kColumnGrain * kColumnGrain), std::min(own.end, end)};
    if (part.begin < part.end) gemm_columns(x.row_block(0, rows), v_transposed_, z.row_block(0, rows), part);
  }
  member.barrier();
  for (const auto& [begin, end] : blocks) {
    const int64_t rows = rows_with(end);
    if (rows == 0) return;
    gemm_columns<T>(z.row_block(0, rows).col_block(begin, end - begin), u_transposed_, y.row_block(0, rows),
                    member.part(y.cols, kColumnGrain), begin == 0 ? Into::overwrite : Into::accumulate,
                    begin);
  }
}

template <class T>
void ChainMap<T>::backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                           T* dfactors, int level, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t out = this->shape().out, in = this->shape().in, full = halves_.rank();
  const int64_t rank = level_rank(this->shape(), level);
  const ConstMatrix<T> z(saved, x.rows, rank);
  const Matrix<T> dz(scratch.allocate<T>(x.rows * rank), x.rows, rank);
  {
    const ProfileScope profile(kProducts.input_gradient,
                               product_flops(x.rows, rank, dx.data ? in + out : out));
    gemm(dy, u_packed_, dz);
    if (dx.data) gemm<T>(dz, v_packed_, dx, into_dx);
  }
  const ProfileScope profile(kProducts.weight_gradient, product_flops(x.rows, rank, in + out));
  gemm(dy.transposed(), z, Matrix<T>(dfactors, out, rank, full), Into::accumulate);
  gemm(dz.transposed(), x, Matrix<T>(dfactors + out * full, rank, in), Into::accumulate);
}

/// U[rows, :rank].
template <class T>
Matrix<T> ChainMap<T>::gather_u(std::span<const int32_t> rows, int64_t rank, Arena& scratch) const {
  const auto count = static_cast<int64_t>(rows.size());
  const Matrix<T> z(scratch.allocate<T>(count * rank), count, rank);
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      if (!u_) {
        u_codes_.decode_row(rows[i], rank, z.row(i));
        continue;
      }
    }
    std::copy_n(u_ + rows[i] * halves_.rank(), rank, z.row(i));
  }
  return z;
}

template <class T>
void ChainMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T*, int level, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t rank = level_rank(this->shape(), level);
  const Matrix<T> z = gather_u(rows, rank, scratch);
  // Either form gives the same bits; inference does not pack V.
  if (v_packed_.empty())
    gemm<T>(z, v(rank), y);
  else
    gemm<T>(z, v_packed_, y);
}

template <class T>
void ChainMap<T>::gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T*, T* dfactors,
                                  int level, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t out = this->shape().out, in = this->shape().in, full = halves_.rank();
  const int64_t rank = level_rank(this->shape(), level);
  const Matrix<T> z = gather_u(rows, rank, scratch);
  gemm<T>(z.transposed(), dy, Matrix<T>(dfactors + out * full, rank, in), Into::accumulate);
  const Matrix<T> dz(scratch.allocate<T>(dy.rows * rank), dy.rows, rank);
  gemm(dy, v_transposed_, dz);
  for (int64_t i = 0; i < dy.rows; ++i)
    for (int64_t r = 0; r < rank; ++r) dfactors[rows[i] * full + r] += dz(i, r);
}

template <class T>
void ChainMap<T>::pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const {
  halves_.pull_back(cores, dfactors, dcores, scratch);
}

namespace {

template <class T>
void chain_to_dense(const ChainHalves& halves, const T* cores, int64_t rank, Matrix<T> w, Arena& scratch) {
  const ArenaScope scope(scratch);
  T* factors = scratch.allocate<T>(halves.factor_size());
  halves.to_factors(cores, factors, scratch);
  const ConstMatrix<T> u(factors, w.rows, halves.rank());
  gemm(u.col_block(0, rank), ConstMatrix<T>(factors + halves.out.contracted_size(), rank, w.cols), w);
}

}  // namespace

template <class T>
void ChainMap<T>::to_dense(const T* cores, T* w, int level, Arena& scratch) const {
  chain_to_dense(halves_, cores, level_rank(this->shape(), level),
                 Matrix<T>(w, this->shape().out, this->shape().in), scratch);
}

template <class T>
void RebuiltChain<T>::to_dense(const T* cores, T* w, int level, Arena& scratch) const {
  chain_to_dense(halves_, cores, level_rank(this->shape(), level),
                 Matrix<T>(w, this->shape().out, this->shape().in), scratch);
}

template <class T>
void RebuiltChain<T>::pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t out = this->shape().out, in = this->shape().in, rank = halves_.rank();
  T* factors = scratch.allocate<T>(halves_.factor_size());
  T* gradient = scratch.allocate<T>(halves_.factor_size());
  halves_.to_factors(cores, factors, scratch);
  const ConstMatrix<T> u(factors, out, rank), v(factors + out * rank, rank, in), dw(dfactors, out, in);
  gemm(dw, v.transposed(), Matrix<T>(gradient, out, rank));
  gemm(u.transposed(), dw, Matrix<T>(gradient + out * rank, rank, in));
  halves_.pull_back(cores, gradient, dcores, scratch);
}

namespace {

/// Of a shape whose pivots are given.
template <class T>
void fixed_chain_from_dense(const WeightShape& shape, const T* w, T* cores) {
  const WeightShape all = with_free_gauge(shape);
  AlignedVector<T> numbers(static_cast<size_t>(parameters(all)));
  chain_from_dense(all, w, numbers.data());
  const FixedChain<T> fixed = fix_gauge(shape, numbers.data());
  std::copy(fixed.cores.begin(), fixed.cores.end(), cores);
}

}  // namespace

template <class T>
void chain_from_dense(const WeightShape& shape, const T* w, T* cores) {
  if (!shape.pivots.empty()) return fixed_chain_from_dense(shape, w, cores);
  const ChainHalves halves(shape);
  const int64_t rank = halves.rank();
  const Svd<T> svd = truncated_svd(ConstMatrix<T>(w, shape.out, shape.in), {.max_rank = rank});
  const auto found = static_cast<int64_t>(svd.s.size());
  // A half of several modes is cut with the singular values on it: an error of U·S (or S·V) is one of W.
  const bool cut_u = shape.out_modes.size() > 1, cut_v = shape.in_modes.size() > 1;
  AlignedVector<T> u(static_cast<size_t>(shape.out * rank)), v(static_cast<size_t>(rank * shape.in));
  AlignedVector<T> root(static_cast<size_t>(rank));
  for (int64_t r = 0; r < found; ++r) {
    root[r] = std::sqrt(svd.s[r]);
    for (int64_t i = 0; i < shape.out; ++i)
      u[i * rank + r] = svd.u[i * found + r] * (cut_u ? svd.s[r] : root[r]);
    for (int64_t j = 0; j < shape.in; ++j)
      v[r * shape.in + j] = svd.v[r * shape.in + j] * (cut_v ? svd.s[r] : root[r]);
  }
  tt_svd(halves.out, u.data(), cores);
  T* in_cores = cores + halves.out.parameters();
  tt_svd(halves.in, v.data(), in_cores);
  const int64_t last = static_cast<int64_t>(halves.out.core_size(halves.out.sizes.size() - 1));
  T* centre = in_cores - last;
  if (cut_u)
    for (int64_t i = 0; i < last; ++i) centre[i] = root[i % rank] > 0 ? centre[i] / root[i % rank] : T{0};
  const int64_t per_rank = halves.in.core_size(0) / rank;
  if (cut_v)
    for (int64_t i = 0; i < per_rank * rank; ++i)
      in_cores[i] = root[i / per_rank] > 0 ? in_cores[i] / root[i / per_rank] : T{0};
}

#define QTF_INSTANTIATE(T)        \
  template class ChainMap<T>;     \
  template class RebuiltChain<T>; \
  template void chain_from_dense(const WeightShape&, const T*, T*);
QTF_INSTANTIATE(float)
QTF_INSTANTIATE(double)
#undef QTF_INSTANTIATE

}  // namespace qtf::tt
