#include "qtf/model/quantized_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/float16.h"
#include "qtf/base/parse.h"

namespace qtf::model {

namespace {

constexpr std::string_view kWholeRowName = "row";

std::string scale_name(const std::string& core) {
  return core + ".scale";
}

io::DType code_dtype(CodeType type) {
  switch (type) {
    case CodeType::f16:
      return io::DType::f16;
    case CodeType::int8:
      return io::DType::i8;
    default:
      return io::DType::u8;  // two codes each
  }
}

/// A row's codes as elements of their tensor.
int64_t code_columns(const Coding& coding, int64_t cols) {
  return coding.row_bytes(cols) / static_cast<int64_t>(io::size_of(code_dtype(coding.type)));
}

}  // namespace

Coding parse_coding(std::string_view type, std::string_view block, std::string_view place) {
  const std::optional<CodeType> known = code_type_named(type);
  if (!known) throw_input_error(place, "there is no type '{}' of codes; there are f16, int8, int4", type);
  Coding coding{.type = *known};
  if (!coding.scaled()) return coding;
  if (block == kWholeRowName) {
    coding.block = Coding::kWholeRow;
    return coding;
  }
  coding.block = parse_count(block, place);
  if (coding.block < 2 || coding.block % 2 != 0 || coding.block > kLargestBlock)
    throw_input_error(place, "a block is an even number of weights, 2 to {}, or \"{}\", got {}",
                      kLargestBlock, kWholeRowName, block);
  return coding;
}

Coding suited_coding(CodeType type, const ModelConfig& config) {
  const bool chains = std::ranges::any_of(
      config.shapes, [](const auto& shape) { return shape.second.kind == tt::ShapeKind::chain; });
  return {.type = type, .block = chains && type == CodeType::int4 ? 16 : 32};
}

std::string block_name(const Coding& coding) {
  return coding.block == Coding::kWholeRow ? std::string(kWholeRowName) : std::to_string(coding.block);
}

std::string to_string(const Coding& coding) {
  if (!coding.scaled()) return std::string(name(coding.type));
  return coding.block == Coding::kWholeRow ? fmt::format("{}, a scale a row", name(coding.type))
                                           : fmt::format("{}, blocks of {}", name(coding.type), coding.block);
}

std::vector<CorePlace> core_places(const MapParameters& map) {
  std::vector<CorePlace> places;
  int64_t offset = map.offset;
  for (const tt::CoreSpec& core : tt::cores(map.shape)) {
    int64_t size = 1;
    for (const int64_t dim : core.dims) size *= dim;
    const int64_t cols = tt::core_row_size(core);
    places.push_back({map.spec.name + "." + core.suffix, offset, size / cols, cols});
    offset += size;
  }
  return places;
}

std::vector<Parameter> parameters_beside_cores(const ParameterLayout& layout) {
  std::vector<Parameter> beside;
  for (const Parameter& p : layout.parameters) {
    const bool core = std::any_of(layout.maps.begin(), layout.maps.end(), [&](const MapParameters& map) {
      return p.offset >= map.offset && p.offset < map.offset + map.size;
    });
    if (!core) beside.push_back(p);
  }
  return beside;
}

QuantizedWeights with_codes(const ParameterLayout& layout, const Coding& coding,
                            const std::shared_ptr<const MapNumbers>& numbers) {
  QuantizedWeights result{coding, {}, numbers};
  for (size_t m = 0; m < layout.maps.size(); ++m) {
    const std::vector<CorePlace> places = core_places(layout.maps[m]);
    tt::QuantizedCores& cores = result.maps.emplace_back();
    for (size_t c = 0; c < places.size(); ++c) cores.cores.push_back((*numbers)[m][c].view());
    cores.gathers = layout.maps[m].spec.part == MapPart::embedding;
  }
  return result;
}

QuantizedWeights quantize(const ParameterLayout& layout, std::span<const float> parameters,
                          const Coding& coding) {
  const auto numbers = std::make_shared<MapNumbers>();
  for (const MapParameters& map : layout.maps) {
    std::vector<QuantizedNumbers>& cores = numbers->emplace_back();
    for (const CorePlace& core : core_places(map)) {
      try {
        cores.push_back(qtf::quantize({parameters.data() + core.offset, core.rows, core.cols}, coding));
      } catch (const InputError& error) {
        throw_input_error(core.name, "{}", error.what());
      }
    }
  }
  return with_codes(layout, coding, numbers);
}

void decode(const QuantizedWeights& weights, const ParameterLayout& layout, std::span<float> parameters) {
  for (size_t m = 0; m < layout.maps.size(); ++m) {
    const std::vector<CorePlace> places = core_places(layout.maps[m]);
    for (size_t c = 0; c < places.size(); ++c)
      weights.maps[m].cores[c].decode(parameters.data() + places[c].offset);
  }
}

int64_t quantized_bytes(const ParameterLayout& layout, const Coding& coding) {
  int64_t bytes = 0;
  for (const MapParameters& map : layout.maps)
    for (const CorePlace& core : core_places(map))
      bytes += core.rows * (coding.row_bytes(core.cols) + 2 * coding.row_scales(core.cols));
  return bytes;
}

void add_tensors(io::SafetensorsWriter& writer, const QuantizedWeights& weights,
                 const ParameterLayout& layout) {
  const auto add = [&](io::DType dtype, std::string name, int64_t rows, int64_t cols, const uint8_t* data) {
    const auto bytes = static_cast<size_t>(rows * cols) * io::size_of(dtype);
    writer.add_bytes(dtype, std::move(name), {rows, cols}, std::as_bytes(std::span(data, bytes)));
  };
  for (size_t m = 0; m < layout.maps.size(); ++m) {
    const std::vector<CorePlace> places = core_places(layout.maps[m]);
    for (size_t c = 0; c < places.size(); ++c) {
      const QuantizedMatrix& core = weights.maps[m].cores[c];
      const Coding& coding = core.coding;
      add(code_dtype(coding.type), places[c].name, core.rows, code_columns(coding, core.cols), core.codes);
      if (coding.scaled())
        add(io::DType::f16, scale_name(places[c].name), core.rows, coding.row_scales(core.cols), core.scales);
    }
  }
}

std::vector<std::string> tensor_names(const ParameterLayout& layout, const Coding& coding) {
  std::vector<std::string> names;
  for (const MapParameters& map : layout.maps)
    for (const CorePlace& core : core_places(map)) {
      names.push_back(core.name);
      if (coding.scaled()) names.push_back(scale_name(core.name));
    }
  return names;
}

namespace {

void check_halves(const uint8_t* halves, int64_t count, const std::string& place, const std::string& name) {
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<uint16_t>(halves[2 * i] | halves[2 * i + 1] << 8);
    if (!std::isfinite(float_from_half(bits)))
      throw_io_error(place, "tensor {} holds {} at element {}; the model is damaged", name,
                     float_from_half(bits), i);
  }
}

const uint8_t* stored_bytes(const WeightFiles& files, const std::string& name, io::DType dtype, int64_t rows,
                            int64_t cols) {
  const StoredTensor tensor = files.at(name);
  const io::TensorInfo& info = *tensor.info;
  if (info.dtype != dtype || info.dims != std::vector<int64_t>{rows, cols})
    throw_io_error(files.place(), "tensor {} (byte {}) is {} [{}], config.json asks for {} [{}, {}]", name,
                   info.offset, io::name(info.dtype), fmt::join(info.dims, ", "), io::name(dtype), rows,
                   cols);
  const auto* bytes = reinterpret_cast<const uint8_t*>(tensor.file->bytes(info).data());
  if (dtype == io::DType::f16) check_halves(bytes, rows * cols, files.place(), name);
  return bytes;
}

}  // namespace

QuantizedWeights read_quantized(std::shared_ptr<const WeightFiles> files, const ParameterLayout& layout,
                                const Coding& coding) {
  QuantizedWeights result{coding, {}, files};
  for (const MapParameters& map : layout.maps) {
    tt::QuantizedCores& cores = result.maps.emplace_back();
    for (const CorePlace& core : core_places(map)) {
      QuantizedMatrix& matrix = cores.cores.emplace_back(QuantizedMatrix{coding, core.rows, core.cols});
      matrix.codes = stored_bytes(*files, core.name, code_dtype(coding.type), core.rows,
                                  code_columns(coding, core.cols));
      if (coding.scaled())
        matrix.scales = stored_bytes(*files, scale_name(core.name), io::DType::f16, core.rows,
                                     coding.row_scales(core.cols));
    }
    cores.gathers = map.spec.part == MapPart::embedding;
  }
  return result;
}

}  // namespace qtf::model
