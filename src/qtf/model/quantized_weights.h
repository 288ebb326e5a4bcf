// The cores of a model as codes of 16, 8 or 4 bits: as they lie in files (docs/model-format.md) and as
// inference runs them. What is no core (norms, biases, positions, the quantum layer) stays floats.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/io/safetensors.h"
#include "qtf/model/parameters.h"
#include "qtf/model/weight_files.h"
#include "qtf/tt/linear_map.h"

namespace qtf::model {

/// All maps of a model. Copies share the memory.
struct QuantizedWeights {
  Coding coding;
  std::vector<tt::QuantizedCores> maps;  ///< in ParameterLayout::maps' order
  std::shared_ptr<const void> memory;    ///< what they point to
};

/// "int8" and "32" or "row" (of no use to f16). Throws InputError, `place` naming whose words they are, for
/// types that do not exist and blocks that do not fit: odd ones, and beyond kLargestBlock.
Coding parse_coding(std::string_view type, std::string_view block, std::string_view place);
inline constexpr int64_t kLargestBlock = 1 << 16;
/// With the block that suits a model: 32 weights a scale, and 16 for chains in 4 bits, which lose a quarter
/// more with 32 (docs/quantization.md).
Coding suited_coding(CodeType type, const ModelConfig& config);
/// "int8, blocks of 32".
std::string to_string(const Coding& coding);
/// The second word that parse_coding takes: "32" or "row".
std::string block_name(const Coding& coding);

/// One core of a map: the name of its tensor, and where its numbers are among the parameters.
struct CorePlace {
  std::string name;
  int64_t offset = 0;
  int64_t rows = 0, cols = 0;  ///< as it is quantized
};

/// A map's cores in their order.
std::vector<CorePlace> core_places(const MapParameters& map);

/// The parameters that are no core.
std::vector<Parameter> parameters_beside_cores(const ParameterLayout& layout);

/// Codes of every map's cores, in ParameterLayout::maps' order.
using MapNumbers = std::vector<std::vector<QuantizedNumbers>>;
QuantizedWeights with_codes(const ParameterLayout& layout, const Coding& coding,
                            const std::shared_ptr<const MapNumbers>& numbers);

/// The nearest codes of all cores. Throws InputError naming the tensor for numbers beyond half floats.
QuantizedWeights quantize(const ParameterLayout& layout, std::span<const float> parameters,
                          const Coding& coding);

/// Writes the numbers that the codes stand for to their places among the parameters.
void decode(const QuantizedWeights& weights, const ParameterLayout& layout, std::span<float> parameters);

/// Bytes of all codes and scales.
int64_t quantized_bytes(const ParameterLayout& layout, const Coding& coding);

/// Adds the tensors of all cores; `weights` must stay until the file is written.
void add_tensors(io::SafetensorsWriter& writer, const QuantizedWeights& weights,
                 const ParameterLayout& layout);

/// The names of those tensors.
std::vector<std::string> tensor_names(const ParameterLayout& layout, const Coding& coding);

/// The cores as they lie in the files. Throws IoError naming the tensor where one is missing or of another
/// type or size, or a scale or a half is not finite.
QuantizedWeights read_quantized(std::shared_ptr<const WeightFiles> files, const ParameterLayout& layout,
                                const Coding& coding);

}  // namespace qtf::model
