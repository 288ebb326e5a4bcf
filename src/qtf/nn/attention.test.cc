#include "qtf/nn/attention.h"

#include <gtest/gtest.h>

#include <limits>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

struct Case {
  int64_t rows, first, head_dim;
};

// One row, both sides of the block of 64 queries, several blocks, positions behind a cache; head sizes that
// are no multiple of a vector.
const std::vector<Case> kCases = {{1, 0, 4},  {2, 0, 8},    {63, 0, 16},   {64, 0, 5},   {65, 0, 40},
                                  {1, 99, 8}, {30, 50, 12}, {130, 70, 32}, {200, 0, 24}, {7, 64, 36}};

/// Queries, keys and values with rows further apart than they are long, NaN between them.
template <class T>
struct Input {
  explicit Input(const Case& c, int64_t gap = 3)
      : seen(c.first + c.rows),
        q_data(padded(c.rows, c.head_dim, gap, 1)),
        k_data(padded(seen, c.head_dim, gap, 2)),
        v_data(padded(seen, c.head_dim, gap, 3)),
        q(q_data.data(), c.rows, c.head_dim, c.head_dim + gap),
        k(k_data.data(), seen, c.head_dim, c.head_dim + gap),
        v(v_data.data(), seen, c.head_dim, c.head_dim + gap) {}

  static std::vector<T> padded(int64_t rows, int64_t cols, int64_t gap, uint64_t stream) {
    std::vector<T> values = random_values<T>(rows * (cols + gap), stream);
    for (int64_t i = 0; i < rows; ++i)
      std::fill_n(values.begin() + i * (cols + gap) + cols, gap, std::numeric_limits<T>::quiet_NaN());
    return values;
  }

  int64_t seen;
  std::vector<T> q_data, k_data, v_data;
  ConstMatrix<T> q, k, v;
};

/// Attention of row i as its definition says, in double; `lse` gets log Σ exp(scaled score), `entropy`
/// −Σ p·ln p.
template <class T>
std::vector<double> plain_row(const Input<T>& in, const Case& c, int64_t i, double scale, double& lse,
                              double& entropy) {
  std::vector<double> score, out(static_cast<size_t>(c.head_dim));
  double sum = 0;
  for (int64_t t = 0; t <= c.first + i; ++t) {
    double dot = 0;
    for (int64_t d = 0; d < c.head_dim; ++d)
      dot += static_cast<double>(in.q(i, d)) * static_cast<double>(in.k(t, d));
    score.push_back(std::exp(scale * dot));
    sum += score.back();
  }
  lse = std::log(sum);
  entropy = 0;
  for (const double s : score) entropy -= s / sum * std::log(s / sum);
  for (size_t t = 0; t < score.size(); ++t) {
    for (int64_t d = 0; d < c.head_dim; ++d)
      out[static_cast<size_t>(d)] += score[t] / sum * static_cast<double>(in.v(static_cast<int64_t>(t), d));
  }
  return out;
}

template <class T>
void expect_equals_plain_loop(const Case& c) {
  const Input<T> in(c);
  const T scale = T{1} / std::sqrt(static_cast<T>(c.head_dim));
  const int64_t stride = c.head_dim + 5;
  std::vector<T> out(static_cast<size_t>(c.rows * stride), T{7}), lse(static_cast<size_t>(c.rows)),
      entropy(lse);
  Arena scratch;
  attention_forward<T>(in.q, in.k.transposed(), in.v, c.first, scale,
                       {out.data(), c.rows, c.head_dim, stride}, lse.data(), entropy.data(), scratch);
  // Errors of a score of size ~5 over head_dim terms, then of a sum over `seen` values of size ~4.
  const double tolerance =
      static_cast<double>(std::numeric_limits<T>::epsilon()) * 20 * static_cast<double>(c.head_dim + in.seen);
  for (int64_t i = 0; i < c.rows; ++i) {
    double plain_lse = 0, plain_entropy = 0;
    const auto plain = plain_row(in, c, i, static_cast<double>(scale), plain_lse, plain_entropy);
    ASSERT_NEAR(static_cast<double>(lse[static_cast<size_t>(i)]), plain_lse, tolerance);
    ASSERT_NEAR(static_cast<double>(entropy[static_cast<size_t>(i)]), plain_entropy, tolerance);
    for (int64_t d = 0; d < stride; ++d) {
      const auto got = static_cast<double>(out[static_cast<size_t>(i * stride + d)]);
      if (d >= c.head_dim) {
        ASSERT_EQ(got, 7) << "written beyond the row";
      } else {
        ASSERT_NEAR(got, plain[static_cast<size_t>(d)], tolerance)
            << "row " << i << " of " << c.rows << " after " << c.first << ", head_dim " << c.head_dim;
      }
    }
  }
}

TEST(Attention, EqualsAPlainLoop) {
  for (const Case& c : kCases) {
    expect_equals_plain_loop<float>(c);
    expect_equals_plain_loop<double>(c);
  }
}

TEST(Attention, AskingForEntropiesChangesNoOtherBit) {
  const Case c{70, 10, 12};
  const Input<float> in(c);
  Arena scratch;
  const auto results = [&](bool with_entropy) {
    std::vector<float> out(70 * 12), lse(70), entropy(70);
    attention_forward<float>(in.q, in.k.transposed(), in.v, 10, 0.3f, {out.data(), 70, 12}, lse.data(),
                             with_entropy ? entropy.data() : nullptr, scratch);
    out.insert(out.end(), lse.begin(), lse.end());
    return out;
  };
  EXPECT_EQ(results(true), results(false));
}

TEST(Attention, EntropyIsTheHeadsMeanShareOfTheMost) {
  const std::vector<double> heads = {0.5, -1, 1.5, -1, 0.1, -1};  // three heads, two apart
  EXPECT_DOUBLE_EQ(attention_entropy(heads.data(), 3, 2, 9), 2.1 / 3 / std::log(10));
  EXPECT_EQ(attention_entropy(heads.data(), 3, 2, 0), 1) << "the first token has nothing to choose from";
  const std::vector<double> rounded = {-1e-16, std::log(2) * (1 + 1e-15)};
  EXPECT_EQ(attention_entropy(rounded.data(), 1, 1, 5), 0);
  EXPECT_EQ(attention_entropy(rounded.data() + 1, 1, 1, 1), 1);
}

TEST(Attention, UniformAttentionHasEntropyOneAndSharpAttentionZero) {
  const std::vector<float> zeros(40 * 4, 0.F), values = random_values<float>(40 * 4, 1);
  std::vector<float> out(40 * 4), lse(40), entropy(40);
  Arena scratch;
  const ConstMatrix<float> equal_keys(zeros.data(), 40, 4), v(values.data(), 40, 4);
  attention_forward<float>(equal_keys, equal_keys.transposed(), v, 0, 1.F, {out.data(), 40, 4}, lse.data(),
                           entropy.data(), scratch);
  for (int64_t t = 0; t < 40; ++t)
    EXPECT_NEAR(attention_entropy(&entropy[static_cast<size_t>(t)], 1, 1, t), 1, 1e-5) << t;
  std::vector<float> own(40 * 40, 0.F);  // token t attends to itself alone
  for (size_t t = 0; t < 40; ++t) own[t * 41] = 30;
  const ConstMatrix<float> one_hot(own.data(), 40, 40);
  std::vector<float> wide_out(40 * 40);
  attention_forward<float>(one_hot, one_hot.transposed(), one_hot, 0, 1.F, {wide_out.data(), 40, 40},
                           lse.data(), entropy.data(), scratch);
  for (int64_t t = 1; t < 40; ++t)
    EXPECT_NEAR(attention_entropy(&entropy[static_cast<size_t>(t)], 1, 1, t), 0, 1e-5) << t;
}

TEST(Attention, BitsDoNotDependOnChunks) {
  const Case whole{150, 0, 20};
  const Input<float> in(whole);
  Arena scratch;
  const auto in_pieces = [&](const std::vector<int64_t>& pieces) {
    std::vector<float> out(150 * 20), lse(150), entropy(150);
    int64_t first = 0;
    for (int64_t rows : pieces) {
      const ConstMatrix<float> keys = in.k.row_block(0, first + rows),
                               values = in.v.row_block(0, first + rows);
      attention_forward<float>(in.q.row_block(first, rows), keys.transposed(), values, first, 0.2f,
                               {out.data() + first * 20, rows, 20}, lse.data() + first,
                               entropy.data() + first, scratch);
      first += rows;
    }
    EXPECT_EQ(first, 150);
    out.insert(out.end(), lse.begin(), lse.end());
    out.insert(out.end(), entropy.begin(), entropy.end());
    return out;
  };
  const auto expected = in_pieces({150});
  EXPECT_EQ(expected, in_pieces(std::vector<int64_t>(150, 1)));
  EXPECT_EQ(expected, in_pieces({1, 63, 64, 22}));
  EXPECT_EQ(expected, in_pieces({65, 70, 15}));
}

TEST(Attention, BitsDoNotDependOnTheKeysLayout) {
  const Case c{70, 10, 12};
  const Input<float> in(c);
  std::vector<float> columns(static_cast<size_t>(c.head_dim * 100));
  for (int64_t t = 0; t < in.seen; ++t) {
    for (int64_t d = 0; d < c.head_dim; ++d) columns[static_cast<size_t>(d * 100 + t)] = in.k(t, d);
  }
  Arena scratch;
  std::vector<float> rows_out(70 * 12), columns_out(70 * 12), lse(70);
  attention_forward<float>(in.q, in.k.transposed(), in.v, 10, 0.3f, {rows_out.data(), 70, 12}, lse.data(),
                           nullptr, scratch);
  attention_forward<float>(in.q, {columns.data(), 12, in.seen, 100}, in.v, 10, 0.3f,
                           {columns_out.data(), 70, 12}, lse.data(), nullptr, scratch);
  EXPECT_EQ(rows_out, columns_out);
}

TEST(Attention, GradientsEqualCentralDifferences) {
  for (const Case& c : std::vector<Case>{{1, 0, 4}, {9, 0, 6}, {64, 0, 8}, {70, 0, 5}, {130, 0, 40}}) {
    Input<double> in(c, 0);
    const double scale = 0.4;
    const auto dout = random_values<double>(c.rows * c.head_dim, 9);
    const auto n = dout.size();
    std::vector<double> out(n), lse(static_cast<size_t>(c.rows));
    Arena scratch;
    const auto loss = [&] {
      attention_forward<double>(in.q, in.k.transposed(), in.v, 0, scale, {out.data(), c.rows, c.head_dim},
                                lse.data(), nullptr, scratch);
      return inner_product(out, dout);
    };
    loss();
    std::vector<double> dq(n, 100), dk(n, 1), dv(n, 2);  // dq is overwritten, dk and dv are added to
    const auto view = [&](std::vector<double>& x) { return Matrix<double>(x.data(), c.rows, c.head_dim); };
    attention_backward<double>(in.q, in.k, in.v, scale, lse.data(),
                               ConstMatrix<double>(dout.data(), c.rows, c.head_dim), view(dq), view(dk),
                               view(dv), scratch);
    for (size_t i = 0; i < n; ++i) dk[i] -= 1, dv[i] -= 2;
    const double tolerance = 1e-9 * std::sqrt(static_cast<double>(n));  // of a loss of n terms
    EXPECT_LT(gradient_error(in.q_data, dq, loss), tolerance) << c.rows;
    EXPECT_LT(gradient_error(in.k_data, dk, loss), tolerance) << c.rows;
    EXPECT_LT(gradient_error(in.v_data, dv, loss), tolerance) << c.rows;
  }
}

}  // namespace
}  // namespace qtf::nn
