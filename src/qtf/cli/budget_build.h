// Builds the model that keeps budgets: compress/ predicts losses and cuts weights, budget/ picks ranks and
// measures. `qtf budget` calls it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qtf/budget/cost_profile.h"
#include "qtf/cli/budget_report.h"
#include "qtf/cli/calibration_input.h"
#include "qtf/compress/compress.h"
#include "qtf/model/model_folder.h"
#include "qtf/text/token_file.h"

namespace qtf::cli {

/// The moments that lie in a model folder. Throws InputError, saying what to do, if there are none.
CalibrationInput stored_calibration(const std::filesystem::path& model);

/// Perplexity on about 16 k tokens from the start of a text.
double perplexity_on(const std::filesystem::path& text, const model::LoadedModel& loaded, ThreadPool& pool);

struct BuiltBudget {
  bool feasible = false;
  std::unique_ptr<model::Transformer<float>> model;  ///< prepared; null if not feasible
  std::vector<int64_t> chosen;                       ///< sizes of the table
  std::optional<BudgetMeasured> measured;            ///< bytes: 0, the file is not written yet
  double bound_gap = 0;
  std::vector<budget::NamedLimit> nearest;
  std::optional<double> nearest_perplexity;
  audit::DecisionList decisions;
};

/// How the made model's file keeps its numbers: floats, or cores as codes from which the model then runs.
struct FileNumbers {
  io::DType dtype = io::DType::f32;
  std::optional<Coding> coding = {};
};

class BudgetBuilder {
 public:
  /// Takes the loaded model's weights; its tokenizer stays. All must outlive it.
  BudgetBuilder(model::LoadedModel& loaded, const CalibrationInput& input, const budget::CostProfile& profile,
                const adapt::Query& query, adapt::EnergyMeter& meter, const FileNumbers& numbers,
                ThreadPool& pool, bool progress);

  /// Reads the text that perplexity is measured on, and scales predicted losses by what two models made with
  /// them really lose on it.
  void probe(const std::filesystem::path& text);

  BuiltBudget build(const BudgetAsked& asked);

  /// Writes model, tokenizer and calibration into a folder.
  void save(const model::Transformer<float>& model, const std::filesystem::path& folder) const;

  const budget::SizeTable& table() const { return table_; }
  /// How predicted losses were scaled, if a text was probed.
  const std::optional<adapt::LossScale>& loss_scale() const { return loss_scale_; }
  const std::string& calibration_text() const { return calibration_.text_sha256; }
  int64_t calibration_tokens() const { return calibration_.tokens; }

 private:
  using Model = model::Transformer<float>;

  void make_table();
  std::unique_ptr<Model> assemble(const std::vector<int64_t>& chosen) const;
  /// The model as its file keeps it, prepared. Codes: by the calibration, or the nearest.
  std::unique_ptr<Model> as_stored(std::unique_ptr<Model> model, bool calibrated) const;
  double nats_of(const Model& model) const;
  budget::QueryMeasurement measure(const Model& model) const;
  budget::QueryMeasurement measure_shapes(const model::ModelConfig& config) const;
  using Timer = std::function<budget::QueryMeasurement()>;
  BudgetMeasured measure_all(const Model& model, const Timer& timer) const;
  /// The fewest parameters of a perplexity, by trying real models.
  BuiltBudget build_for_perplexity(const BudgetAsked& asked);
  BuiltBudget build_within(const BudgetAsked& asked);

  const text::Tokenizer& tokenizer_;
  const CalibrationInput& input_;
  const budget::CostProfile& profile_;
  adapt::Query query_;
  adapt::EnergyMeter& meter_;
  FileNumbers numbers_;
  ThreadPool& pool_;
  bool progress_;
  std::unique_ptr<Model> source_;    ///< null: the original itself
  std::unique_ptr<Model> original_;  ///< all dense
  compress::CompressOptions options_;
  compress::Calibration calibration_;
  budget::PredictedLosses losses_;
  budget::SizeTable table_;
  std::optional<adapt::LossScale> loss_scale_;
  std::optional<text::TokenFile> text_;
  double original_nats_ = 0;
};

}  // namespace qtf::cli
