#include "qtf/io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "qtf/base/error.h"

namespace qtf::io {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in the file");

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;  // a page of any system; ours and ggml's files have 32
constexpr uint32_t kMaxDims = 4;                       // ggml's
constexpr size_t kMaxName = 63;                        // ggml's, without its end
constexpr std::string_view kAlignmentKey = "general.alignment";

// The least that an entry and a tensor's description take, so that a hostile count fails at once.
constexpr uint64_t kLeastEntry = 8 + 4 + 1;
constexpr uint64_t kLeastTensor = 8 + 4 + 4 + 8;

/// Bytes of one value of a fixed length; 0 for texts, arrays and unknown kinds.
uint64_t size_of(GgufKind kind) {
  constexpr uint8_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto number = static_cast<uint32_t>(kind);
  return number < std::size(kSizes) ? kSizes[number] : 0;
}

/// A name from a file as errors show it: cut after 80 bytes, control characters replaced.
std::string printable(std::string_view name) {
  constexpr size_t kMost = 80;
  std::string text(name.substr(0, kMost));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return name.size() > kMost ? text + "..." : text;
}

/// Walks through the header.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, std::string_view place) : file_(file), place_(place) {}

  uint64_t position() const { return at_; }
  uint64_t left() const { return file_.size() - at_; }

  std::span<const std::byte> take(uint64_t bytes, std::string_view what) {
    if (bytes > left()) {
      throw_io_error("gguf", "{}: {} of {} bytes at byte {} goes beyond the end at byte {}", place_, what,
                     bytes, at_, file_.size());
    }
    const auto taken = file_.subspan(at_, bytes);
    at_ += bytes;
    return taken;
  }

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::string_view text(std::string_view what) {
    const auto length = number<uint64_t>(what);
    const auto bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  template <class... Args>
  [[noreturn]] void fail(uint64_t position, fmt::format_string<Args...> format, Args&&... args) const {
    throw_io_error("gguf", "{}: {} at byte {}", place_, fmt::format(format, std::forward<Args>(args)...),
                   position);
  }

  std::string_view place() const { return place_; }
  uint64_t file_size() const { return file_.size(); }

 private:
  std::span<const std::byte> file_;
  std::string_view place_;
  uint64_t at_ = 0;
};

GgufArray read_array(Cursor& cursor, std::string_view key) {
  const uint64_t begin = cursor.position();
  GgufArray array;
  array.kind = static_cast<GgufKind>(cursor.number<uint32_t>("an array's kind"));
  array.count = cursor.number<uint64_t>("an array's length");
  if (array.kind == GgufKind::array)
    cursor.fail(begin, "{} holds an array of arrays, which no model has,", printable(key));
  const uint64_t size = size_of(array.kind);
  if (size == 0 && array.kind != GgufKind::string)
    cursor.fail(begin, "{} holds values of the unknown kind {}", printable(key),
                static_cast<uint32_t>(array.kind));
  const uint64_t least = size == 0 ? sizeof(uint64_t) : size;
  if (array.count > cursor.left() / least) {
    cursor.fail(begin, "{} claims {} elements, more than the rest of the file can hold,", printable(key),
                array.count);
  }
  if (size > 0) {
    array.bytes = cursor.take(array.count * size, "an array");
    return array;
  }
  Cursor ahead = cursor;
  for (uint64_t i = 0; i < array.count; ++i) ahead.text("a text of an array");
  array.bytes = cursor.take(ahead.position() - cursor.position(), "an array");
  return array;
}

GgufValue read_value(Cursor& cursor, std::string_view key) {
  const uint64_t kind_position = cursor.position();
  const auto kind = static_cast<GgufKind>(cursor.number<uint32_t>("a value's kind"));
  GgufValue result;
  result.position = cursor.position();
  auto& value = result.value;
  constexpr std::string_view kWhat = "a value";
  switch (kind) {
    case GgufKind::uint8:
      value = uint64_t{cursor.number<uint8_t>(kWhat)};
      break;
    case GgufKind::int8:
      value = int64_t{cursor.number<int8_t>(kWhat)};
      break;
    case GgufKind::uint16:
      value = uint64_t{cursor.number<uint16_t>(kWhat)};
      break;
    case GgufKind::int16:
      value = int64_t{cursor.number<int16_t>(kWhat)};
      break;
    case GgufKind::uint32:
      value = uint64_t{cursor.number<uint32_t>(kWhat)};
      break;
    case GgufKind::int32:
      value = int64_t{cursor.number<int32_t>(kWhat)};
      break;
    case GgufKind::float32:
      value = double{cursor.number<float>(kWhat)};
      break;
    case GgufKind::boolean:
      value = cursor.number<uint8_t>(kWhat) != 0;
      break;
    case GgufKind::string:
      value = cursor.text(kWhat);
      break;
    case GgufKind::array:
      value = read_array(cursor, key);
      break;
    case GgufKind::uint64:
      value = cursor.number<uint64_t>(kWhat);
      break;
    case GgufKind::int64:
      value = cursor.number<int64_t>(kWhat);
      break;
    case GgufKind::float64:
      value = cursor.number<double>(kWhat);
      break;
    default:
      cursor.fail(kind_position, "{} has the unknown kind {}", printable(key), static_cast<uint32_t>(kind));
  }
  return result;
}

uint32_t read_version(Cursor& cursor) {
  const auto magic = cursor.take(kMagic.size(), "the magic number");
  if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0)
    cursor.fail(0, "no \"GGUF\": it is no GGUF file,");
  const auto version = cursor.number<uint32_t>("the version");
  if (version == 2 || version == 3) return version;
  if (version == 0x02000000 || version == 0x03000000)
    cursor.fail(4, "version {:#x}: the file is big-endian, which is not supported,", version);
  cursor.fail(4, "version {} is not supported (2 and 3 are); convert the model again,", version);
}

uint64_t checked_count(Cursor& cursor, std::string_view what, uint64_t least_bytes) {
  const uint64_t begin = cursor.position();
  const auto count = cursor.number<uint64_t>(what);
  if (count > cursor.left() / least_bytes)
    cursor.fail(begin, "{} {} is more than the file can hold,", what, count);
  return count;
}

/// A tensor's description; its offset is still relative to the data.
GgufTensor read_tensor(Cursor& cursor) {
  GgufTensor tensor;
  const uint64_t begin = cursor.position();
  tensor.name = cursor.text("a tensor's name");
  const std::string name = printable(tensor.name);
  const auto dims = cursor.number<uint32_t>("a tensor's number of dims");
  if (dims > kMaxDims) cursor.fail(begin, "{} has {} dims, at most {} are allowed,", name, dims, kMaxDims);
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dims; ++i) {
    const auto dim = cursor.number<uint64_t>("a tensor's dim");
    if (dim == 0) cursor.fail(begin, "{} has no elements", name);
    if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        __builtin_mul_overflow(elements, dim, &elements) ||
        elements > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      cursor.fail(begin, "{} has too many elements", name);
    }
    tensor.dims.insert(tensor.dims.begin(), static_cast<int64_t>(dim));
  }
  const uint64_t type_position = cursor.position();
  const auto number = cursor.number<uint32_t>("a tensor's type");
  const TensorTypeInfo* type = find_tensor_type(number);
  if (!type && gguf_type_name(number).empty())
    cursor.fail(type_position, "{} has the unknown type {}", name, number);
  if (!type) {
    throw_input_error("gguf",
                      "{}: {} is {} (byte {}); F32, F16, BF16, Q8_0 and Q4_0 are read. Convert it to one of "
                      "them, for example with llama-quantize --allow-requantize",
                      cursor.place(), name, gguf_type_name(number), type_position);
  }
  tensor.type = type->type;
  const uint64_t row = tensor.dims.empty() ? 1 : static_cast<uint64_t>(tensor.dims.back());
  const auto block = static_cast<uint64_t>(type->block);
  if (row % block != 0)
    cursor.fail(begin, "{} of type {} has rows of {}, no multiple of {},", name, type->name, row, block);
  if (__builtin_mul_overflow(elements / block, type->bytes, &tensor.bytes))
    cursor.fail(begin, "{} has too many elements", name);
  tensor.offset = cursor.number<uint64_t>("a tensor's offset");
  return tensor;
}

uint64_t alignment_of(const GgufHeader& header, const Cursor& cursor) {
  const auto found = header.metadata.find(kAlignmentKey);
  if (found == header.metadata.end()) return kDefaultAlignment;
  const auto* value = std::get_if<uint64_t>(&found->second.value);
  if (!value || !std::has_single_bit(*value) || *value > kMaxAlignment)
    cursor.fail(found->second.position, "{} must be a power of two up to {}", kAlignmentKey, kMaxAlignment);
  return *value;
}

/// Makes offsets absolute; tensors must be aligned, inside the file and apart.
void place_tensors(GgufHeader& header, const Cursor& cursor) {
  const uint64_t alignment = alignment_of(header, cursor);
  const uint64_t data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  std::vector<GgufTensor*> order;
  for (GgufTensor& tensor : header.tensors) {
    const std::string name = printable(tensor.name);
    if (tensor.offset % alignment != 0)
      cursor.fail(tensor.offset, "{} is not aligned to {} bytes: it begins in the data", name, alignment);
    const uint64_t room = cursor.file_size() - std::min(data_begin, cursor.file_size());
    if (tensor.offset > room || tensor.bytes > room - tensor.offset) {
      throw_io_error("gguf",
                     "{}: {} of {} bytes at byte {} of the data goes beyond the end of the file at {}",
                     cursor.place(), name, tensor.bytes, tensor.offset, cursor.file_size());
    }
    tensor.offset += data_begin;
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor &before = *order[i - 1], &tensor = *order[i];
    if (before.offset + before.bytes > tensor.offset)
      cursor.fail(tensor.offset, "{} and {} overlap", printable(before.name), printable(tensor.name));
  }
}

void check_names(const GgufHeader& header, const Cursor& cursor) {
  std::map<std::string_view, const GgufTensor*> names;
  for (const GgufTensor& tensor : header.tensors) {
    if (!names.emplace(tensor.name, &tensor).second)
      cursor.fail(tensor.offset, "two tensors are called {}, the second", printable(tensor.name));
  }
}

}  // namespace

int64_t GgufTensor::elements() const {
  int64_t product = 1;
  for (const int64_t dim : dims) product *= dim;
  return product;
}

GgufHeader parse_gguf(std::span<const std::byte> file, std::string_view place) {
  Cursor cursor(file, place);
  GgufHeader header;
  header.version = read_version(cursor);
  const uint64_t tensors = checked_count(cursor, "the number of tensors", kLeastTensor);
  const uint64_t entries = checked_count(cursor, "the number of metadata entries", kLeastEntry);
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t begin = cursor.position();
    const std::string_view key = cursor.text("a key");
    if (!header.metadata.emplace(key, read_value(cursor, key)).second)
      cursor.fail(begin, "{} comes twice, again", printable(key));
  }
  for (uint64_t i = 0; i < tensors; ++i) header.tensors.push_back(read_tensor(cursor));
  place_tensors(header, cursor);
  check_names(header, cursor);
  return header;
}

std::vector<std::string_view> texts(const GgufArray& array, std::string_view place) {
  if (array.kind != GgufKind::string) throw_io_error("gguf", "{} must be an array of texts", place);
  Cursor cursor(array.bytes, place);
  std::vector<std::string_view> result(array.count);
  for (std::string_view& text : result) text = cursor.text("a text");
  return result;
}

namespace {

/// Appends the elements of type `Stored`, each checked to fit T.
template <class Stored, class T>
void append(const GgufArray& array, std::string_view place, std::vector<T>& out) {
  for (uint64_t i = 0; i < array.count; ++i) {
    Stored element;
    std::memcpy(&element, array.bytes.data() + i * sizeof element, sizeof element);
    if constexpr (std::is_integral_v<T>) {
      if (!std::in_range<T>(element))
        throw_io_error("gguf", "{}: element {} is out of range: {}", place, i, element);
    }
    out.push_back(static_cast<T>(element));
  }
}

}  // namespace

template <class T>
std::vector<T> numbers(const GgufArray& array, std::string_view place) {
  std::vector<T> out;
  if constexpr (std::is_floating_point_v<T>) {
    if (array.kind == GgufKind::float32) append<float>(array, place, out);
    if (array.kind == GgufKind::float64) append<double>(array, place, out);
  } else {
    if (array.kind == GgufKind::uint8) append<uint8_t>(array, place, out);
    if (array.kind == GgufKind::int8) append<int8_t>(array, place, out);
    if (array.kind == GgufKind::uint16) append<uint16_t>(array, place, out);
    if (array.kind == GgufKind::int16) append<int16_t>(array, place, out);
    if (array.kind == GgufKind::uint32) append<uint32_t>(array, place, out);
    if (array.kind == GgufKind::int32) append<int32_t>(array, place, out);
    if (array.kind == GgufKind::uint64) append<uint64_t>(array, place, out);
    if (array.kind == GgufKind::int64) append<int64_t>(array, place, out);
  }
  if (out.size() != array.count) throw_io_error("gguf", "{} must be an array of numbers", place);
  return out;
}

template std::vector<float> numbers(const GgufArray&, std::string_view);
template std::vector<int32_t> numbers(const GgufArray&, std::string_view);

GgufFile::GgufFile(const std::filesystem::path& path)
    : place_(path.string()), file_(path), header_(parse_gguf(file_.bytes(), place_)) {
  for (size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

void GgufFile::read(const GgufTensor& tensor, std::span<float> out) const {
  QTF_ASSERT(static_cast<int64_t>(out.size()) == tensor.elements());
  const TensorTypeInfo& how = info(tensor.type);
  how.decode(bytes(tensor).data(), tensor.elements() / how.block, out.data());
}

template <class T>
const T* GgufFile::get(std::string_view key, std::string_view wanted) const {
  const auto found = header_.metadata.find(key);
  if (found == header_.metadata.end()) return nullptr;
  const T* value = std::get_if<T>(&found->second.value);
  if (!value)
    throw_io_error("gguf", "{}: {} must be {} (byte {})", place_, key, wanted, found->second.position);
  return value;
}

std::optional<int64_t> GgufFile::integer(std::string_view key, int64_t least, int64_t most) const {
  const auto found = header_.metadata.find(key);
  if (found == header_.metadata.end()) return std::nullopt;
  const auto fail = [&](const auto& what) {
    throw_io_error("gguf", "{}: {} must be a whole number from {} to {}, got {} (byte {})", place_, key,
                   least, most, what, found->second.position);
  };
  int64_t value = 0;
  if (const auto* natural = std::get_if<uint64_t>(&found->second.value)) {
    if (*natural > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) fail(*natural);
    value = static_cast<int64_t>(*natural);
  } else if (const auto* whole = std::get_if<int64_t>(&found->second.value)) {
    value = *whole;
  } else {
    fail("another kind");
  }
  if (value < least || value > most) fail(value);
  return value;
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const double* value = get<double>(key, "a floating-point number");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const bool* value = get<bool>(key, "true or false");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const std::string_view* value = get<std::string_view>(key, "a text");
  return value ? std::optional(*value) : std::nullopt;
}

const GgufArray* GgufFile::array(std::string_view key) const {
  return get<GgufArray>(key, "an array");
}

namespace {

template <class T>
void append_number(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& to, std::string_view text) {
  append_number(to, uint64_t{text.size()});
  to.append(text);
}

uint64_t padded(uint64_t size) {
  return (size + kDefaultAlignment - 1) / kDefaultAlignment * kDefaultAlignment;
}

}  // namespace

void GgufWriter::begin_entry(const std::string& key, GgufKind kind) {
  if (!taken_.emplace("key " + key, true).second) throw_input_error("gguf", "{} is set twice", key);
  ++entries_;
  append_text(metadata_, key);
  append_number(metadata_, static_cast<uint32_t>(kind));
}

void GgufWriter::begin_array(const std::string& key, GgufKind kind, size_t count) {
  begin_entry(key, GgufKind::array);
  append_number(metadata_, static_cast<uint32_t>(kind));
  append_number(metadata_, uint64_t{count});
}

void GgufWriter::set(const std::string& key, bool value) {
  begin_entry(key, GgufKind::boolean);
  append_number(metadata_, static_cast<uint8_t>(value));
}

void GgufWriter::set(const std::string& key, uint32_t value) {
  begin_entry(key, GgufKind::uint32);
  append_number(metadata_, value);
}

void GgufWriter::set(const std::string& key, float value) {
  begin_entry(key, GgufKind::float32);
  append_number(metadata_, value);
}

void GgufWriter::set(const std::string& key, std::string_view value) {
  begin_entry(key, GgufKind::string);
  append_text(metadata_, value);
}

void GgufWriter::set(const std::string& key, std::span<const std::string> values) {
  begin_array(key, GgufKind::string, values.size());
  for (const std::string& value : values) append_text(metadata_, value);
}

void GgufWriter::set(const std::string& key, std::span<const float> values) {
  begin_array(key, GgufKind::float32, values.size());
  for (const float value : values) append_number(metadata_, value);
}

void GgufWriter::set(const std::string& key, std::span<const int32_t> values) {
  begin_array(key, GgufKind::int32, values.size());
  for (const int32_t value : values) append_number(metadata_, value);
}

void GgufWriter::set(const std::string& key, std::span<const std::byte> values) {
  begin_array(key, GgufKind::uint8, values.size());
  for (const std::byte value : values) append_number(metadata_, value);
}

TensorType GgufWriter::add(const std::string& name, std::vector<int64_t> dims, TensorType type,
                           std::span<const float> data) {
  if (name.size() > kMaxName)
    throw_input_error("gguf", "{}: the name is longer than {} bytes", name, kMaxName);
  if (!taken_.emplace("tensor " + name, true).second)
    throw_input_error("gguf", "two tensors are called {}", name);
  if (dims.empty() || dims.size() > kMaxDims) throw_input_error("gguf", "{}: 1 to 4 dims, please", name);
  int64_t elements = 1;
  for (const int64_t dim : dims) elements *= dim;
  if (elements != static_cast<int64_t>(data.size())) {
    throw_input_error("gguf", "{}: dims [{}] do not give its {} numbers", name, fmt::join(dims, ", "),
                      data.size());
  }
  const int64_t row = dims.back();
  if (row % info(type).block != 0) type = TensorType::f16;
  tensors_.push_back({name, std::move(dims), type, encode(type, data, name)});
  return type;
}

void GgufWriter::write(const std::filesystem::path& path) const {
  std::string header(kMagic);
  append_number(header, uint32_t{3});
  append_number(header, uint64_t{tensors_.size()});
  append_number(header, entries_);
  header += metadata_;
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_text(header, tensor.name);
    append_number(header, static_cast<uint32_t>(tensor.dims.size()));
    for (size_t i = tensor.dims.size(); i-- > 0;) append_number(header, tensor.dims[i]);
    append_number(header, static_cast<uint32_t>(tensor.type));
    append_number(header, offset);
    offset += padded(tensor.bytes.size());
  }
  header.resize(padded(header.size()), '\0');
  AtomicFile file(path);
  file.write(header);
  for (const Tensor& tensor : tensors_) {
    file.write(tensor.bytes.data(), tensor.bytes.size());
    file.write(std::string(padded(tensor.bytes.size()) - tensor.bytes.size(), '\0'));
  }
  file.commit();
}

}  // namespace qtf::io
