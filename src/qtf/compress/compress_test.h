// Small models, texts and matrices for the tests of compression.
#pragma once

#include <memory>
#include <vector>

#include "qtf/base/random.h"
#include "qtf/compress/compress.h"
#include "qtf/model/small_model.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {

struct FamilyCase {
  model::Family family;
  bool tied;
};

inline AlignedVector<double> random_matrix(int64_t n, uint64_t stream) {
  AlignedVector<double> values(static_cast<size_t>(n));
  const Random random{8, stream};
  for (size_t i = 0; i < values.size(); ++i) values[i] = random.normal(i);
  return values;
}

/// A·Aᵀ of a random A[n, k].
inline AlignedVector<double> random_moment(int64_t n, int64_t k, uint64_t stream) {
  const AlignedVector<double> a = random_matrix(n * k, stream);
  AlignedVector<double> moment(static_cast<size_t>(n * n));
  const ConstMatrix<double> view(a.data(), n, k);
  gemm(view, view.transposed(), Matrix<double>(moment.data(), n, n));
  return moment;
}

/// Sequences of unequal lengths up to 20, of the byte tokenizer's ids.
inline Sequences random_sequences(int64_t count, int64_t vocabulary = 257) {
  const Random random{3, 1};
  Sequences text;
  for (int64_t s = 0; s < count; ++s) {
    for (int64_t i = 0; i < 8 + s % 13; ++i)
      text.tokens.push_back(static_cast<int32_t>(
          random.below(static_cast<uint64_t>(text.rows()), static_cast<uint64_t>(vocabulary))));
    text.ends.push_back(text.rows());
  }
  return text;
}

/// A dense model of 2 layers with random weights whose directions matter unequally, as trained ones' do.
inline std::unique_ptr<model::Transformer<float>> small_dense_model(model::Family family, bool tied,
                                                                    ThreadPool& pool) {
  model::ModelConfig config = model::small_config({"dense", family, {}, tied});
  auto model = std::make_unique<model::Transformer<float>>(config);
  model::randomise(*model);
  for (const model::MapParameters& map : model->layout().maps) {
    float* w = model->parameters().data() + map.offset;
    for (int64_t i = 0; i < map.size; ++i)
      w[i] *= 2.0f / static_cast<float>(1 + (i % map.spec.in + i / map.spec.in) % 9);
  }
  model->prepare(tt::Use::inference, pool);
  return model;
}

}  // namespace qtf::compress
