#include "qtf/nn/head.h"

#include <gtest/gtest.h>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

constexpr int64_t kWidth = 6, kVocabulary = 11;

/// A head over `rows` random hidden states, some of whose targets are left out.
struct Fixture {
  explicit Fixture(int64_t rows_, const std::string& text = "dense")
      : rows(rows_), shape(tt::parse_shape(text, kVocabulary, kWidth)) {
    cores = random_values<double>(tt::parameters(shape), 1, 0.7);
    head.map = tt::make_linear_map<double>(shape);
    head.map_gradient = 0;
    hidden = random_values<double>(rows * kWidth, 2);
    teacher = random_values<double>(rows * kWidth, 3);
    for (int64_t i = 0; i < rows; ++i)
      targets.push_back(i % 4 == 2 ? -1 : static_cast<int32_t>(i * 7 % kVocabulary));
    gradients.assign(static_cast<size_t>(head.map->factor_size()), 0);
    dhidden.assign(hidden.size(), 50);
  }

  HeadTask<double> task(bool distil) const {
    HeadTask<double> t;
    t.targets = targets;
    if (distil) t.teacher = {teacher.data(), rows, kWidth};
    return t;
  }
  double run(const HeadTask<double>& t) {
    head.map->prepare(cores.data(), tt::Use::training);
    return head_loss<double>(head, {hidden.data(), rows, kWidth}, t, 0, scratch);
  }
  double run_backward(bool distil, double scale) {
    HeadTask<double> t = task(distil);
    t.gradient_scale = scale;
    t.dhidden = {dhidden.data(), rows, kWidth};
    t.gradients = gradients.data();
    return run(t);
  }
  /// log softmax of one row of the logits, as defined.
  std::vector<double> log_probabilities(const std::vector<double>& states, int64_t row) {
    std::vector<double> w(static_cast<size_t>(kVocabulary * kWidth)),
        result(static_cast<size_t>(kVocabulary));
    head.map->to_dense(cores.data(), w.data(), 0, scratch);
    double sum = 0;
    for (size_t v = 0; v < result.size(); ++v) {
      for (size_t d = 0; d < kWidth; ++d)
        result[v] += w[v * kWidth + d] * states[static_cast<size_t>(row) * kWidth + d];
      sum += std::exp(result[v]);
    }
    for (double& r : result) r -= std::log(sum);
    return result;
  }

  int64_t rows;
  tt::WeightShape shape;
  std::vector<double> cores, hidden, teacher, gradients, dhidden;
  std::vector<int32_t> targets;
  Linear<double> head;
  Arena scratch;
};

TEST(Head, LossesEqualTheirDefinitions) {
  for (const char* text : {"dense", "chain:rank=3"}) {
    Fixture f(9, text);
    std::vector<double> nats(9, -1), divergence(9, -1);
    HeadTask<double> plain = f.task(false), distil = f.task(true);
    plain.token_nats = nats.data(), distil.token_nats = divergence.data();
    const double sum = f.run(plain), divergence_sum = f.run(distil);
    double expected_sum = 0, expected_divergence_sum = 0;
    for (int64_t i = 0; i < 9; ++i) {
      const int32_t target = f.targets[static_cast<size_t>(i)];
      const auto student = f.log_probabilities(f.hidden, i), teacher = f.log_probabilities(f.teacher, i);
      double expected = 0, expected_divergence = 0;
      if (target >= 0) {
        expected = -student[static_cast<size_t>(target)];
        for (size_t v = 0; v < student.size(); ++v)
          expected_divergence += std::exp(teacher[v]) * (teacher[v] - student[v]);
      }
      EXPECT_NEAR(nats[static_cast<size_t>(i)], expected, 1e-13) << text;
      EXPECT_NEAR(divergence[static_cast<size_t>(i)], expected_divergence, 1e-13) << text;
      expected_sum += expected, expected_divergence_sum += expected_divergence;
    }
    EXPECT_NEAR(sum, expected_sum, 1e-12);
    EXPECT_NEAR(divergence_sum, expected_divergence_sum, 1e-12);
  }
}

TEST(Head, GradientsEqualCentralDifferences) {
  for (const char* text : {"dense", "chain:rank=3"}) {
    for (bool distil : {false, true}) {
      Fixture f(9, text);
      const double scale = 0.3;
      std::fill(f.gradients.begin(), f.gradients.end(), 2.0);
      f.run_backward(distil, scale);
      for (double& g : f.gradients) g -= 2;
      EXPECT_LT(gradient_error(f.hidden, f.dhidden, [&] { return scale * f.run(f.task(distil)); }), 1e-8)
          << text;
      for (size_t d = 0; d < kWidth; ++d) EXPECT_EQ(f.dhidden[2 * kWidth + d], 0) << "a target left out";
      if (distil) continue;  // the teacher's logits come from the same weights, held fixed
      EXPECT_LT(gradient_error(f.cores, f.gradients, [&] { return scale * f.run(f.task(false)); }), 1e-8)
          << text;
    }
  }
}

TEST(Head, DistillationsWeightGradientHoldsTheTeacherFixed) {
  Fixture f(9);
  f.run_backward(true, 1);
  std::vector<std::vector<double>> teachers;
  for (int64_t i = 0; i < 9; ++i) teachers.push_back(f.log_probabilities(f.teacher, i));
  const auto loss = [&] {
    double sum = 0;
    for (int64_t i = 0; i < 9; ++i) {
      if (f.targets[static_cast<size_t>(i)] < 0) continue;
      const auto student = f.log_probabilities(f.hidden, i);
      const auto& teacher = teachers[static_cast<size_t>(i)];
      for (size_t v = 0; v < student.size(); ++v) sum += std::exp(teacher[v]) * (teacher[v] - student[v]);
    }
    return sum;
  };
  EXPECT_LT(gradient_error(f.cores, f.gradients, loss), 1e-8);
}

TEST(Head, ATeacherHasNothingToTeachItself) {
  Fixture f(5);
  f.teacher = f.hidden;
  EXPECT_NEAR(f.run_backward(true, 1), 0, 1e-13);
  for (double g : f.dhidden) EXPECT_NEAR(g, 0, 1e-13);
}

TEST(Head, ChunksOf256RowsGiveTheSameSums) {
  Fixture whole(600);
  std::vector<double> nats(600);
  for (bool distil : {false, true}) {
    const double sum = whole.run_backward(distil, 1);
    HeadTask<double> scoring = whole.task(distil);
    scoring.token_nats = nats.data();
    EXPECT_EQ(whole.run(scoring), sum) << "with and without gradients";
    double sum_alone = 0;
    std::vector<double> gradients_alone(whole.gradients.size());
    for (int64_t i = 0; i < 600; ++i) {
      const ConstMatrix<double> row(whole.hidden.data() + i * kWidth, 1, kWidth);
      std::vector<double> dhidden(kWidth);
      HeadTask<double> t;
      t.targets = std::span(whole.targets).subspan(static_cast<size_t>(i), 1);
      if (distil) t.teacher = {whole.teacher.data() + i * kWidth, 1, kWidth};
      t.gradient_scale = 1;
      t.dhidden = {dhidden.data(), 1, kWidth};
      t.gradients = gradients_alone.data();
      const double alone = head_loss<double>(whole.head, row, t, 0, whole.scratch);
      EXPECT_EQ(alone, nats[static_cast<size_t>(i)]) << "row " << i;
      EXPECT_TRUE(std::equal(dhidden.begin(), dhidden.end(), whole.dhidden.begin() + i * kWidth))
          << "row " << i;
      sum_alone += alone;
    }
    EXPECT_NEAR(sum, sum_alone, 1e-10);
    for (size_t i = 0; i < gradients_alone.size(); ++i)
      EXPECT_NEAR(whole.gradients[i], gradients_alone[i], 1e-11);
    std::fill(whole.gradients.begin(), whole.gradients.end(), 0.0);
  }
}

}  // namespace
}  // namespace qtf::nn
