#include "qtf/nn/head.h"

#include <gtest/gtest.h>

#include <map>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

constexpr int64_t kWidth = 6, kVocabulary = 11;

/// How much a teacher counts: not at all, alone, alone and softened, beside the text.
struct Lesson {
  double weight = 0, temperature = 1;
};
constexpr Lesson kLessons[] = {{0}, {1}, {1, 2.5}, {0.3}, {0.6, 1.7}};

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

  HeadTask<double> task(Lesson lesson) const {
    HeadTask<double> t;
    t.targets = targets;
    if (lesson.weight > 0)
      t.teacher = {&head, {teacher.data(), rows, kWidth}, 0, lesson.weight, lesson.temperature};
    return t;
  }
  double run(const HeadTask<double>& t) {
    head.map->prepare(cores.data(), tt::Use::training);
    return head_loss<double>(head, {hidden.data(), rows, kWidth}, t, 0, scratch);
  }
  double run_backward(Lesson lesson, double scale) {
    HeadTask<double> t = task(lesson);
    t.gradient_scale = scale;
    t.dhidden = {dhidden.data(), rows, kWidth};
    t.gradients = gradients.data();
    return run(t);
  }
  /// log softmax of one row of the logits over a temperature, as defined.
  std::vector<double> log_probabilities(const std::vector<double>& states, int64_t row,
                                        double temperature = 1) {
    std::vector<double> w(static_cast<size_t>(kVocabulary * kWidth)),
        result(static_cast<size_t>(kVocabulary));
    head.map->to_dense(cores.data(), w.data(), 0, scratch);
    double sum = 0;
    for (size_t v = 0; v < result.size(); ++v) {
      for (size_t d = 0; d < kWidth; ++d)
        result[v] += w[v * kWidth + d] * states[static_cast<size_t>(row) * kWidth + d] / temperature;
      sum += std::exp(result[v]);
    }
    for (double& r : result) r -= std::log(sum);
    return result;
  }
  double cross_entropy(int64_t row) {
    const int32_t target = targets[static_cast<size_t>(row)];
    return target < 0 ? 0 : -log_probabilities(hidden, row)[static_cast<size_t>(target)];
  }
  /// τ²·KL(teacher ‖ student) of one row; the teacher's distribution stays what it was at the first call.
  double divergence(int64_t row, double temperature) {
    if (targets[static_cast<size_t>(row)] < 0) return 0;
    auto& expert = held_[row];
    if (expert.empty()) expert = log_probabilities(teacher, row, temperature);
    const auto student = log_probabilities(hidden, row, temperature);
    double sum = 0;
    for (size_t v = 0; v < student.size(); ++v) sum += std::exp(expert[v]) * (expert[v] - student[v]);
    return temperature * temperature * sum;
  }
  /// The sum that gradients are of.
  double loss(Lesson lesson) {
    double sum = 0;
    for (int64_t i = 0; i < rows; ++i) {
      if (lesson.weight < 1) sum += (1 - lesson.weight) * cross_entropy(i);
      if (lesson.weight > 0) sum += lesson.weight * divergence(i, lesson.temperature);
    }
    return sum;
  }

  int64_t rows;
  tt::WeightShape shape;
  std::vector<double> cores, hidden, teacher, gradients, dhidden;
  std::vector<int32_t> targets;
  Linear<double> head;
  Arena scratch;

 private:
  std::map<int64_t, std::vector<double>> held_;
};

TEST(Head, LossesEqualTheirDefinitions) {
  for (const char* text : {"dense", "chain:rank=3"}) {
    for (const Lesson& lesson : kLessons) {
      Fixture f(9, text);
      std::vector<double> nats(9, -1);
      HeadTask<double> task = f.task(lesson);
      task.token_nats = nats.data();
      const double sum = f.run(task);
      double expected_sum = 0;
      for (int64_t i = 0; i < 9; ++i) {
        const double expected = lesson.weight == 1 ? f.divergence(i, lesson.temperature) : f.cross_entropy(i);
        EXPECT_NEAR(nats[static_cast<size_t>(i)], expected, 1e-13) << text << " weight " << lesson.weight;
        expected_sum += expected;
      }
      EXPECT_NEAR(sum, expected_sum, 1e-12);
    }
  }
}

TEST(Head, GradientsEqualCentralDifferences) {
  for (const char* text : {"dense", "chain:rank=3"}) {
    for (const Lesson& lesson : kLessons) {
      Fixture f(9, text);
      const double scale = 0.3;
      std::fill(f.gradients.begin(), f.gradients.end(), 2.0);
      f.run_backward(lesson, scale);
      for (double& g : f.gradients) g -= 2;
      const auto loss = [&] { return scale * f.loss(lesson); };
      EXPECT_LT(gradient_error(f.hidden, f.dhidden, loss), 1e-8) << text << " weight " << lesson.weight;
      EXPECT_LT(gradient_error(f.cores, f.gradients, loss), 1e-8) << text << " weight " << lesson.weight;
      for (size_t d = 0; d < kWidth; ++d) EXPECT_EQ(f.dhidden[2 * kWidth + d], 0) << "a target left out";
    }
  }
}

TEST(Head, ATeacherMayHaveAnotherWidth) {
  Fixture f(9);
  const Lesson lesson{0.5, 2};
  f.run_backward(lesson, 1);
  // The same teacher, its states padded with numbers that weights of zero take away.
  constexpr int64_t kWider = kWidth + 3;
  std::vector<double> cores, states;
  const auto pad = [&](const std::vector<double>& from, int64_t n, double padding, std::vector<double>& to) {
    for (int64_t i = 0; i < n; ++i) {
      to.insert(to.end(), from.begin() + i * kWidth, from.begin() + (i + 1) * kWidth);
      to.insert(to.end(), kWider - kWidth, padding);
    }
  };
  pad(f.cores, kVocabulary, 0, cores), pad(f.teacher, 9, 5, states);
  Linear<double> wider;
  wider.map = tt::make_linear_map<double>(tt::parse_shape("dense", kVocabulary, kWider));
  wider.map->prepare(cores.data(), tt::Use::inference);
  std::vector<double> dhidden(f.dhidden.size()), gradients(f.gradients.size());
  HeadTask<double> task = f.task(lesson);
  task.teacher.head = &wider, task.teacher.hidden = {states.data(), 9, kWider};
  task.gradient_scale = 1;
  task.dhidden = {dhidden.data(), 9, kWidth}, task.gradients = gradients.data();
  f.run(task);
  for (size_t i = 0; i < dhidden.size(); ++i) EXPECT_NEAR(dhidden[i], f.dhidden[i], 1e-14);
}

TEST(Head, ATeacherHasNothingToTeachItself) {
  Fixture f(5);
  f.teacher = f.hidden;
  EXPECT_NEAR(f.run_backward({1}, 1), 0, 1e-13);
  for (double g : f.dhidden) EXPECT_NEAR(g, 0, 1e-13);
}

TEST(Head, ProbabilitiesTeachAsTheirHeadDoes) {
  constexpr int64_t kRows = 300;  // more than a chunk
  Fixture f(kRows);
  const double divergence = f.run_backward({1}, 0.3);
  const std::vector<double> dhidden = f.dhidden, gradients = f.gradients;

  std::vector<double> probabilities(kRows * kVocabulary, -1);
  HeadTask<double> teaching;
  teaching.targets = f.targets;
  teaching.probabilities = {probabilities.data(), kRows, kVocabulary};
  head_loss<double>(f.head, {f.teacher.data(), kRows, kWidth}, teaching, 0, f.scratch);
  double entropy = 0;
  for (int64_t i = 0; i < kRows; ++i) {
    const auto expected = f.log_probabilities(f.teacher, i);
    for (size_t v = 0; v < expected.size(); ++v) {
      EXPECT_NEAR(probabilities[static_cast<size_t>(i * kVocabulary) + v], std::exp(expected[v]), 1e-14);
      if (f.targets[static_cast<size_t>(i)] >= 0) entropy -= std::exp(expected[v]) * expected[v];
    }
  }
  // The teacher's rows in another order.
  std::vector<double> reversed;
  std::vector<int64_t> rows;
  for (int64_t i = kRows; i-- > 0; rows.push_back(i))
    reversed.insert(reversed.end(), probabilities.begin() + i * kVocabulary,
                    probabilities.begin() + (i + 1) * kVocabulary);
  f.gradients.assign(f.gradients.size(), 0);
  HeadTask<double> task = f.task({0});
  task.teacher.probabilities = {reversed.data(), kRows, kVocabulary};
  task.teacher.rows = rows;
  EXPECT_NEAR(f.run(task), divergence + entropy, 1e-10) << "without gradients";
  task.gradient_scale = 0.3;
  task.dhidden = {f.dhidden.data(), kRows, kWidth};
  task.gradients = f.gradients.data();
  EXPECT_NEAR(f.run(task), divergence + entropy, 1e-10);
  for (size_t i = 0; i < dhidden.size(); ++i) EXPECT_NEAR(f.dhidden[i], dhidden[i], 1e-14);
  for (size_t i = 0; i < gradients.size(); ++i) EXPECT_NEAR(f.gradients[i], gradients[i], 1e-12);
}

TEST(Head, ChunksOf256RowsGiveTheSameSums) {
  Fixture whole(600);
  std::vector<double> nats(600);
  for (const Lesson& lesson : kLessons) {
    const double sum = whole.run_backward(lesson, 1);
    HeadTask<double> scoring = whole.task(lesson);
    scoring.token_nats = nats.data();
    EXPECT_EQ(whole.run(scoring), sum) << "with and without gradients";
    double sum_alone = 0;
    std::vector<double> gradients_alone(whole.gradients.size());
    for (int64_t i = 0; i < 600; ++i) {
      const ConstMatrix<double> row(whole.hidden.data() + i * kWidth, 1, kWidth);
      std::vector<double> dhidden(kWidth);
      HeadTask<double> t;
      t.targets = std::span(whole.targets).subspan(static_cast<size_t>(i), 1);
      t.teacher = whole.task(lesson).teacher;
      t.teacher.hidden = {whole.teacher.data() + i * kWidth, 1, kWidth};
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
