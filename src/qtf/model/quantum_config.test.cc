#include "qtf/model/quantum_config.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/model/config.h"
#include "qtf/model/config_file.h"
#include "qtf/model/parameters.h"

namespace qtf::model {
namespace {

TEST(QuantumConfig, TextGivesBackWhatWasRead) {
  const QuantumConfig q = parse_quantum("fraction=0.15,ansatz=none,qubits=3,routing=random,layers=4,train=0");
  EXPECT_EQ(q, (QuantumConfig{{nn::InnerKind::product, 3, 4}, 150'000, false, Routing::random}));
  EXPECT_EQ(parse_quantum(to_string(q)), q);
  EXPECT_EQ(parse_quantum("qubits=6"), QuantumConfig{}) << "what is not said has its default";
  EXPECT_EQ(to_string(QuantumConfig{}), "qubits=6,layers=2,ansatz=strongly,fraction=0.2");
  EXPECT_EQ(parse_quantum("fraction=0.299999").fraction_ppm, 299'999);
}

TEST(QuantumConfig, RefusesWhatDoesNotFit) {
  const std::vector<std::pair<const char*, const char*>> rows = {
      {"", "KEY=VALUE"},
      {"qubits", "KEY=VALUE"},
      {"qubit=6", "did you mean qubits"},
      {"qubits=6,qubits=5", "given twice"},
      {"qubits=six", "must be a number"},
      {"qubits=6x", "must be a number"},
      {"qubits=0", "qubits must be 1 to 16"},
      {"qubits=17", "qubits must be 1 to 16"},
      {"layers=0", "layers must be 1 to 64"},
      {"layers=65", "layers must be 1 to 64"},
      {"ansatz=stronly", "did you mean strongly"},
      {"fraction=0.3", "below 0.3"},
      {"fraction=0.2999999", "below 0.3"},
      {"fraction=0", "above 0"},
      {"fraction=-0.1", "above 0"},
      {"fraction=nan", "above 0"},
      {"train=yes", "train must be 0 or 1"},
      {"routing=dice", "gate or random"},
      {"qubits=6,", "KEY=VALUE"},
  };
  for (const auto& [text, expected] : rows) {
    try {
      parse_quantum(text);
      ADD_FAILURE() << text;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << text << ": " << error.what();
    }
  }
}

TEST(QuantumConfig, AFilesBlockIsChecked) {
  ModelConfig config = preset_config("nano");
  config.quantum = parse_quantum("qubits=4,layers=1,fraction=0.1,train=0");
  const std::string json = config_to_json(config, "");
  EXPECT_EQ(config_from_json(json, "x").config.quantum, config.quantum);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = json;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  for (const std::string& bad :
       {with("\"qubits\": 4", "\"qubits\": 99"), with("\"qubits\": 4", "\"qubits\": 4294967300"),
        with("\"fraction\": 0.1", "\"fraction\": 0.5"), with("\"ansatz\": \"strongly\"", "\"ansatz\": \"x\""),
        with("\"routing\": \"gate\"", "\"routing\": \"x\""), with("\"routing\": \"gate\"", "\"layers\": -7")})
    EXPECT_THROW(config_from_json(bad, "x"), InputError) << bad;
  EXPECT_THROW(config_from_json(with("\"qubits\": 4", "\"qubits\": \"four\""), "x"), IoError);
}

TEST(QuantumConfig, TheLayerSitsInTheMiddleAndBeginsWithoutEffect) {
  ModelConfig config = preset_config("nano");  // three blocks
  config.quantum = parse_quantum("qubits=4,layers=2");
  EXPECT_EQ(quantum_block(config), 1);
  const ParameterLayout layout = make_layout(config);
  EXPECT_EQ(layout.quantum->end - layout.quantum->begin, quantum_parameters(config));
  EXPECT_EQ(layout.find("model.layers.1.quantum.circuit.angles").size, 3 * 4 * 2);
  EXPECT_EQ(layout.find("model.layers.1.quantum.in_proj.weight").dims, (std::vector<int64_t>{4, 32}));
  const auto values = initial_parameters<float>(layout, 3);
  const auto value = [&](int64_t offset) { return values[static_cast<size_t>(offset)]; };
  EXPECT_EQ(value(layout.quantum->layer.gate), 0);
  EXPECT_EQ(value(layout.quantum->layer.signal_weight), 1);
  EXPECT_EQ(value(layout.quantum->layer.score_weight), 0);
  EXPECT_EQ(value(layout.quantum->layer.norm), 1);
  EXPECT_NE(value(layout.quantum->layer.in_weight), 0);
  EXPECT_NE(value(layout.quantum->layer.out_weight), 0);
  EXPECT_EQ(value(layout.quantum->entropy_quantiles), 0);
  EXPECT_EQ(value(layout.quantum->entropy_quantiles + kEntropyQuantiles - 1), 1);
}

}  // namespace
}  // namespace qtf::model
