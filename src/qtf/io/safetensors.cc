#include "qtf/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <type_traits>

#include "qtf/base/error.h"
#include "qtf/base/float16.h"
#include "qtf/io/safetensors_header.h"
#include "qtf/io/tensor_type.h"

namespace qtf::io {

static_assert(std::endian::native == std::endian::little, "tensors are mapped as they lie in the file");

namespace {

struct DTypeInfo {
  DType dtype;
  std::string_view name;
  size_t bytes;
};

// In DType's order.
constexpr std::array<DTypeInfo, 10> kDTypes = {{
    {DType::f64, "F64", 8},
    {DType::f32, "F32", 4},
    {DType::f16, "F16", 2},
    {DType::bf16, "BF16", 2},
    {DType::i64, "I64", 8},
    {DType::i32, "I32", 4},
    {DType::i16, "I16", 2},
    {DType::i8, "I8", 1},
    {DType::u8, "U8", 1},
    {DType::boolean, "BOOL", 1},
}};

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr size_t kDataAlignment = 64;
constexpr std::string_view kMetadataKey = "__metadata__";

std::optional<DType> dtype_of(std::string_view text) {
  for (const DTypeInfo& info : kDTypes) {
    if (info.name == text) return info.dtype;
  }
  return std::nullopt;
}

/// Product of dims and `unit`; nullopt if it overflows.
std::optional<uint64_t> checked_bytes(std::span<const int64_t> dims, uint64_t unit) {
  uint64_t bytes = unit;
  for (int64_t dim : dims) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) return std::nullopt;
  }
  return bytes;
}

uint64_t read_header_length(std::span<const std::byte> file, std::string_view place) {
  if (file.size() < kLengthBytes) {
    throw_io_error("safetensors", "{}: cut off at byte {}; a file has 8 bytes of length and a header", place,
                   file.size());
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  if (length > kMaxHeaderBytes) {
    throw_io_error("safetensors", "{}: header length {} at byte 0 is above {}; this is no safetensors file",
                   place, length, kMaxHeaderBytes);
  }
  if (length > file.size() - kLengthBytes) {
    throw_io_error("safetensors",
                   "{}: header of {} bytes at byte 8 goes beyond the end at byte {}; copy the file again",
                   place, length, file.size());
  }
  return length;
}

/// Checks one declaration against the data's size and makes it a TensorInfo.
TensorInfo checked_tensor(internal::TensorDeclaration declaration, uint64_t data_begin, uint64_t data_bytes,
                          std::string_view place) {
  const auto [begin, end] = declaration.data_offsets;
  const std::string name = internal::printable(declaration.name);
  const auto dtype = dtype_of(declaration.dtype);
  if (!dtype) {
    throw_io_error("safetensors", "{}: {} has the unknown type '{}' (header before byte {})", place, name,
                   internal::printable(declaration.dtype), declaration.position);
  }
  if (begin > end || end > data_bytes) {
    throw_io_error("safetensors", "{}: {} lies at bytes {} to {} of {} bytes of data (header before byte {})",
                   place, name, begin, end, data_bytes, declaration.position);
  }
  const auto bytes = checked_bytes(declaration.dims, size_of(*dtype));
  if (!bytes || *bytes != end - begin) {
    throw_io_error(
        "safetensors", "{}: {} of type {} and dims [{}] cannot have {} bytes (header before byte {})", place,
        name, declaration.dtype, fmt::join(declaration.dims, ", "), end - begin, declaration.position);
  }
  return {std::move(declaration.name), *dtype, std::move(declaration.dims), data_begin + begin, *bytes};
}

/// Tensors by offset must follow each other without overlap or hole, up to the end of the file.
void check_tiling(const std::vector<TensorInfo>& tensors, size_t data_begin, size_t file_bytes,
                  std::string_view place) {
  size_t next = data_begin;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset != next) {
      throw_io_error(
          "safetensors",
          "{}: {} begins at byte {}, expected byte {}: tensors must neither overlap nor leave gaps", place,
          internal::printable(tensor.name), tensor.offset, next);
    }
    next += tensor.bytes;
  }
  if (next != file_bytes) {
    throw_io_error("safetensors", "{}: the tensors end at byte {}, the file at byte {}", place, next,
                   file_bytes);
  }
}

void check_names(const std::vector<TensorInfo>& tensors, std::string_view place) {
  std::set<std::string_view> names;
  for (const TensorInfo& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      throw_io_error("safetensors", "{}: two tensors are called {} (second at byte {})", place,
                     internal::printable(tensor.name), tensor.offset);
    }
  }
}

/// out[i] = decode(element i), elements of type `Stored` at any alignment.
template <class Stored, class T, class Decode>
void decode_all(std::span<const std::byte> bytes, std::span<T> out, Decode decode) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored element;
    std::memcpy(&element, bytes.data() + i * sizeof element, sizeof element);
    out[i] = static_cast<T>(decode(element));
  }
}

template <class T>
bool decode_floating(DType dtype, std::span<const std::byte> bytes, std::span<T> out) {
  const auto same = [](auto x) { return x; };
  switch (dtype) {
    case DType::f64:
      decode_all<double>(bytes, out, same);
      return true;
    case DType::f32:
      decode_all<float>(bytes, out, same);
      return true;
    case DType::f16:
      decode_all<uint16_t>(bytes, out, float_from_half);
      return true;
    case DType::bf16:
      decode_all<uint16_t>(bytes, out, float_from_bfloat16);
      return true;
    default:
      return false;
  }
}

template <class T>
bool decode_integer(DType dtype, std::span<const std::byte> bytes, std::span<T> out) {
  if (dtype != (std::is_same_v<T, int64_t> ? DType::i64 : DType::i32)) return false;
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return true;
}

template <class T>
constexpr std::string_view kWanted = std::is_floating_point_v<T> ? "a floating-point type"
                                     : sizeof(T) == 8            ? "I64"
                                                                 : "I32";

}  // namespace

std::string_view name(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].name;
}

size_t size_of(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].bytes;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view place) {
  const uint64_t length = read_header_length(file, place);
  const uint64_t data_begin = kLengthBytes + length;
  const auto* text = reinterpret_cast<const char*>(file.data()) + kLengthBytes;
  auto declared = internal::parse_header({text, length}, kLengthBytes, place);

  SafetensorsHeader header;
  header.metadata = std::move(declared.metadata);
  header.tensors.reserve(declared.tensors.size());
  for (auto& declaration : declared.tensors) {
    header.tensors.push_back(
        checked_tensor(std::move(declaration), data_begin, file.size() - data_begin, place));
  }
  // Empty tensors share their offset with the next one: they come first.
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
                   });
  check_names(header.tensors, place);
  check_tiling(header.tensors, data_begin, file.size(), place);
  return header;
}

template <class T>
void convert(DType dtype, std::span<const std::byte> bytes, std::span<T> out, std::string_view place) {
  if (out.size() != bytes.size() / size_of(dtype)) {
    throw_input_error("safetensors", "{}: expected room for {} numbers, got {}", place,
                      bytes.size() / size_of(dtype), out.size());
  }
  bool known;
  if constexpr (std::is_floating_point_v<T>) {
    known = decode_floating(dtype, bytes, out);
  } else {
    known = decode_integer(dtype, bytes, out);
  }
  if (!known) throw_io_error("safetensors", "{}: expected {}, got {}", place, kWanted<T>, name(dtype));
}

template void convert(DType, std::span<const std::byte>, std::span<float>, std::string_view);
template void convert(DType, std::span<const std::byte>, std::span<double>, std::string_view);
template void convert(DType, std::span<const std::byte>, std::span<int64_t>, std::string_view);
template void convert(DType, std::span<const std::byte>, std::span<int32_t>, std::string_view);

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : place_(path.string()), file_(path), header_(parse_safetensors(file_.bytes(), place_)) {
  for (size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const TensorInfo* SafetensorsFile::find(std::string_view tensor) const {
  const auto found = index_.find(tensor);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

const TensorInfo& SafetensorsFile::at(std::string_view tensor) const {
  if (const TensorInfo* info = find(tensor)) return *info;
  throw_io_error("safetensors", "{}: there is no tensor {} among its {}", place_, tensor,
                 header_.tensors.size());
}

void SafetensorsWriter::add(std::string tensor, std::vector<int64_t> dims, std::span<const float> data) {
  add_entry({std::move(tensor), DType::f32, std::move(dims), std::as_bytes(data)});
}

void SafetensorsWriter::add(std::string tensor, std::vector<int64_t> dims, std::span<const double> data) {
  add_entry({std::move(tensor), DType::f64, std::move(dims), std::as_bytes(data)});
}

void SafetensorsWriter::add(std::string tensor, std::vector<int64_t> dims, std::span<const int64_t> data) {
  add_entry({std::move(tensor), DType::i64, std::move(dims), std::as_bytes(data)});
}

void SafetensorsWriter::add(std::string tensor, std::vector<int64_t> dims, std::span<const int32_t> data) {
  add_entry({std::move(tensor), DType::i32, std::move(dims), std::as_bytes(data)});
}

void SafetensorsWriter::add_owned(std::string tensor, std::vector<int64_t> dims, std::vector<float> data) {
  owned_.push_back(std::move(data));
  add(std::move(tensor), std::move(dims), std::span<const float>(owned_.back()));
}

void SafetensorsWriter::add_as(DType dtype, std::string tensor, std::vector<int64_t> dims,
                               std::span<const float> data) {
  if (dtype == DType::f32) return add(std::move(tensor), std::move(dims), data);
  QTF_ASSERT(dtype == DType::f16 || dtype == DType::bf16);
  rounded_.push_back(encode(dtype == DType::f16 ? TensorType::f16 : TensorType::bf16, data, tensor));
  add_entry({std::move(tensor), dtype, std::move(dims), rounded_.back()});
}

void SafetensorsWriter::add_bytes(DType dtype, std::string tensor, std::vector<int64_t> dims,
                                  std::span<const std::byte> data) {
  add_entry({std::move(tensor), dtype, std::move(dims), data});
}

void SafetensorsWriter::add_entry(Entry entry) {
  if (entry.name == kMetadataKey)
    throw_input_error("safetensors", "no tensor may be called {}", kMetadataKey);
  if (!internal::is_json_text(entry.name))
    throw_input_error("safetensors", "a tensor's name is not valid UTF-8");
  for (const Entry& other : entries_) {
    if (other.name == entry.name) throw_input_error("safetensors", "two tensors are called {}", entry.name);
  }
  const bool negative =
      std::any_of(entry.dims.begin(), entry.dims.end(), [](int64_t dim) { return dim < 0; });
  if (negative || checked_bytes(entry.dims, size_of(entry.dtype)) != entry.data.size()) {
    throw_input_error("safetensors", "{}: dims [{}] do not give its {} numbers", entry.name,
                      fmt::join(entry.dims, ", "), entry.data.size() / size_of(entry.dtype));
  }
  entries_.push_back(std::move(entry));
}

void SafetensorsWriter::set_metadata(const std::string& key, const std::string& value) {
  if (!internal::is_json_text(key) || !internal::is_json_text(value)) {
    throw_input_error("safetensors", "metadata must be valid UTF-8");
  }
  metadata_[key] = value;
}

std::vector<const SafetensorsWriter::Entry*> SafetensorsWriter::in_file_order() const {
  std::vector<const Entry*> order;
  for (const Entry& entry : entries_) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(),
                   [](const Entry* a, const Entry* b) { return size_of(a->dtype) > size_of(b->dtype); });
  return order;
}

std::string SafetensorsWriter::header_text() const {
  std::vector<internal::TensorDeclaration> tensors;
  uint64_t offset = 0;
  for (const Entry* entry : in_file_order()) {
    const uint64_t end = offset + entry->data.size();
    tensors.push_back({entry->name, std::string(io::name(entry->dtype)), entry->dims, {offset, end}});
    offset = end;
  }
  std::string text = internal::print_header({std::move(tensors), metadata_});
  const size_t used = (kLengthBytes + text.size()) % kDataAlignment;
  if (used != 0) text.append(kDataAlignment - used, ' ');
  return text;
}

void SafetensorsWriter::write(const std::filesystem::path& path) const {
  AtomicFile file(path);
  const std::string header = header_text();
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const Entry* entry : in_file_order()) file.write(entry->data.data(), entry->data.size());
  file.commit();
}

}  // namespace qtf::io
