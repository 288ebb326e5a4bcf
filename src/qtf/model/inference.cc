#include "qtf/model/inference.h"

#include <algorithm>
#include <optional>

#include "qtf/base/profile.h"
#include "qtf/model/output_signal.h"
#include "qtf/nn/decode.h"

namespace qtf::model {

namespace {

/// Rows that a worker takes through the layers at once, so that their activations stay in its caches.
constexpr int64_t kRowsAtOnce = 256;

/// Members that get at least one `grain` of `work`, at most all.
int members_for(int64_t work, int64_t grain, int size) {
  return static_cast<int>(std::clamp<int64_t>(work / grain, 1, size));
}

/// A member's rows of a pass, cut out of the sequences' segments.
template <class T>
struct OwnRows {
  std::vector<nn::Segment<T>> segments;
  std::vector<int32_t> tokens;
  std::vector<int64_t> places;  // in the pass, of each segment's first row

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }

  /// Adds the rows [part.begin, part.end) of the pass.
  void add(const NewTokens<T>& all, Range part) {
    for (const nn::Segment<T>& segment : all.segments) {
      const int64_t begin = std::max(part.begin, segment.row);
      const int64_t end = std::min(part.end, segment.row + segment.rows);
      if (begin >= end) continue;
      segments.push_back({rows(), end - begin, segment.position + begin - segment.row, segment.cache});
      places.push_back(begin);
      tokens.insert(tokens.end(), all.tokens.begin() + begin, all.tokens.begin() + end);
    }
  }
};

/// Room for the entropies of some of the rows; none if they are not asked for.
template <class T>
Matrix<T> entropy_rows(Matrix<T> asked, int64_t rows, Arena& arena) {
  if (!asked.data) return {};
  return {arena.allocate<T>(asked.rows * rows), asked.rows, rows};
}

/// Of the rows [slice.begin, slice.end), cut into two pieces a member, member w takes the w-th from the front
/// and the w-th from the back: later tokens attend to more, and so all have as much to do.
template <class T>
OwnRows<T> own_rows(const NewTokens<T>& all, Range slice, const TeamMember& member) {
  const int pieces = 2 * member.size();
  const auto piece = [&](int index) {
    const Range part = split_range(slice.size(), index, pieces);
    return Range{slice.begin + part.begin, slice.begin + part.end};
  };
  OwnRows<T> own;
  own.add(all, piece(member.index()));
  own.add(all, piece(pieces - 1 - member.index()));
  return own;
}

/// What a scheduler asks of the circuits' states, and where it is to be read; null: nothing.
template <class T>
T* asked_nats(const Levels& levels, std::vector<T>& room) {
  return levels.scheduler && levels.scheduler->asks_circuit() ? room.data() : nullptr;
}

}  // namespace

template <class T>
void Inference<T>::forward(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden,
                           Matrix<T> entropy) {
  if (!levels.scheduler || !levels.scheduler->asks_output()) return pass(chunks, levels, hidden, entropy);
  model_.new_tokens(chunks);  // checks them
  forward_by_token<T>(
      chunks, levels, model_.config_, hidden, entropy,
      [&](std::span<const Chunk<T>> step, const Levels& here, Matrix<T> to, Matrix<T> nats) {
        pass(step, here, to, nats);
      },
      [&](Matrix<T> of, Matrix<T> to) { this->logits(of, levels.level, to); });
}

template <class T>
void Inference<T>::pass(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden,
                        Matrix<T> entropy) {
  const NewTokens<T> tokens = model_.new_tokens(chunks);
  if (model_.quantum()) {
    routed_.resize(std::max(routed_.size(), tokens.tokens.size()));
    selections_.resize(std::max(selections_.size(), tokens.tokens.size()));
    circuit_nats_.resize(std::max(circuit_nats_.size(), tokens.tokens.size()));
  }
  if (levels.scheduler) standings_.resize(std::max(standings_.size(), tokens.tokens.size()));
  if (tokens.rows() <= kFewRows) {
    forward_few(tokens, levels, hidden, entropy);
  } else {
    forward_many(tokens, levels, hidden, entropy);
  }
  if (model_.quantum()) keep_routes<T>(tokens.segments, routed_.data());
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i].cache->advance(tokens.segments[i].rows);
}

template <class T>
void Inference<T>::forward_few(const NewTokens<T>& tokens, const Levels& levels, Matrix<T> hidden,
                               Matrix<T> entropy) {
  const ArenaScope scope(arenas_[0]);
  const auto& blocks = model_.blocks_;
  const int64_t rows = tokens.rows(), width = model_.config_.width;
  const auto matrix = [&] { return Matrix<T>(arenas_[0].allocate<T>(rows * width), rows, width); };
  const Matrix<T> buffers[2] = {matrix(), matrix()};
  const auto activations = nn::make_team_activations<T>(blocks, model_.spec_, rows, width, arenas_[0]);
  const auto entropies = row_pointers(entropy);
  const auto job = [&](TeamMember& member) {
    Arena& scratch = arena(member);
    if (member.index() == 0)
      model_.embed(tokens.tokens, tokens.segments, buffers[0], nullptr, levels.level, scratch);
    member.barrier();
    nn::Pass<T> pass{tokens.segments, rows, levels.level, {}, &member, entropies};
    std::optional<RoutedPass<T>> routing;
    if (const QuantumPath<T>* path = model_.quantum()) {
      routing.emplace(
          *path, tokens.segments,
          RouteTrace<T>{.routed = routed_.data(), .circuit_entropy = asked_nats(levels, circuit_nats_)});
      pass.middle = &*routing, pass.middle_layer = path->block();
    }
    std::optional<RankedPass<T>> ranks;
    if (levels.scheduler) {
      pass.chooser = &ranks.emplace(levels, tokens.segments);
      ranks->take_circuit(asked_nats(levels, circuit_nats_));
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      nn::block_decode<T>(blocks[i], model_.spec_, pass, static_cast<int64_t>(i), buffers[i % 2],
                          buffers[1 - i % 2], activations, scratch);
    }
    if (member.index() != 0) return;
    const ArenaScope last(scratch);
    nn::norm_forward<T>(model_.final_norm_, buffers[blocks.size() % 2], hidden,
                        scratch.allocate<T>(model_.final_norm_.stats_size(rows)));
  };
  team_.run(job, members_for(model_.block_macs_ * rows, options_.macs_per_worker, team_.size()));
}

template <class T>
void Inference<T>::forward_many(const NewTokens<T>& tokens, const Levels& levels, Matrix<T> hidden,
                                Matrix<T> entropy) {
  const int64_t width = model_.config_.width;
  const QuantumPath<T>* path = model_.quantum();
  const auto job = [&](TeamMember& member) {
    const int64_t step = kRowsAtOnce * member.size();
    std::optional<RoutedPass<T>> routing;
    if (path)
      routing.emplace(
          *path, tokens.segments,
          RouteTrace<T>{.routed = routed_.data(), .circuit_entropy = asked_nats(levels, circuit_nats_)});
    std::optional<RankedPass<T>> ranks;
    if (levels.scheduler)
      ranks.emplace(levels, tokens.segments).take_circuit(asked_nats(levels, circuit_nats_));
    for (int64_t begin = 0; begin < tokens.rows(); begin += step) {
      const ArenaScope scope(arena(member));
      const Range slice{begin, std::min(tokens.rows(), begin + step)};
      const OwnRows<T> own = own_rows(tokens, slice, member);
      const auto matrix = [&] {
        return Matrix<T>(arena(member).template allocate<T>(own.rows() * width), own.rows(), width);
      };
      const Matrix<T> x = matrix(), mine = matrix();
      const Matrix<T> own_entropy = entropy_rows(entropy, own.rows(), arena(member));
      const auto entropies = row_pointers(own_entropy);
      model_.embed(own.tokens, own.segments, x, nullptr, levels.level, arena(member));
      nn::Pass<T> pass{own.segments, own.rows(), levels.level, {}, &member, entropies};
      if (path) {
        routing->take_slice(slice, own.places, selections_.data());
        pass.middle = &*routing, pass.middle_layer = path->block();
      }
      if (ranks) {
        ranks->take_slice(slice, own.places, standings_.data());
        pass.chooser = &*ranks;
      }
      model_.run_blocks(pass, x, mine, nullptr, arena(member));
      for (size_t i = 0; i < own.places.size(); ++i) {
        const nn::Segment<T>& segment = own.segments[i];
        std::copy_n(mine.row(segment.row), segment.rows * width, hidden.row(own.places[i]));
        for (int64_t layer = 0; layer < own_entropy.rows; ++layer) {
          std::copy_n(own_entropy.row(layer) + segment.row, segment.rows, entropy.row(layer) + own.places[i]);
        }
      }
    }
  };
  team_.run(job, members_for(tokens.rows(), kFewRows / 2, team_.size()));
}

template <class T>
void Inference<T>::logits(ConstMatrix<T> hidden, int level, Matrix<T> logits) {
  const ArenaScope scope(arenas_[0]);
  const ProfileScope profile("head");
  const nn::Linear<T>& head = model_.head();
  T* shared = arenas_[0].allocate<T>(head.map->shared_size(hidden.rows));
  const int64_t macs = tt::macs(head.map->shape()) * hidden.rows;
  team_.run(
      [&](TeamMember& member) {
        nn::linear_columns<T>(head, hidden, logits, level, member, shared, arena(member));
      },
      members_for(macs, options_.macs_per_worker, team_.size()));
}

template class Inference<float>;
template class Inference<double>;

}  // namespace qtf::model
