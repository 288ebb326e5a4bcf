#include "qtf/io/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/float16.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::io {
namespace {

namespace fs = std::filesystem;

const fs::path kTestData = fs::path(QTF_SOURCE_DIR) / "src/qtf/io/testdata";

template <class T>
using Numbers = std::vector<T>;

std::string with_length(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + std::string(data_bytes, '\1');
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors");
}

/// The error for a file of this header and so many data bytes; empty if it is taken.
std::string error_of(const std::string& header, size_t data_bytes) {
  try {
    parse(with_length(header, data_bytes));
    return "";
  } catch (const IoError& error) {
    return error.what();
  }
}

TEST(SafetensorsFile, ReadsEveryTypeOfAnIndependentWriter) {
  const SafetensorsFile file(kTestData / "all_types.safetensors");
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"author", "make_safetensors.py"}, {"format", "pt"}}));
  ASSERT_EQ(file.tensors().size(), 12u);
  EXPECT_EQ(file.tensors().front().name, "flags") << "by offset, not in the header's order";

  const auto f32 = file.at("f32");
  EXPECT_EQ(f32.dtype, DType::f32);
  EXPECT_EQ(f32.dims, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.read<float>(f32), (Numbers<float>{0, 1, -2.5f, 3e38f, 1e-40f, 0.1f}));
  EXPECT_EQ(file.read<double>(f32)[5], double{0.1f});
  EXPECT_EQ(file.read<double>(file.at("f64")), (Numbers<double>{1.5, -1e300}));
  EXPECT_EQ(file.read<float>(file.at("f64"))[0], 1.5f);
  EXPECT_EQ(file.read<float>(file.at("f16")), (Numbers<float>{1, -65504, 0x1p-24f, INFINITY}));
  EXPECT_EQ(file.read<double>(file.at("bf16")), (Numbers<double>{1, -0.15625, 0x1p100}));
  EXPECT_EQ(file.read<int64_t>(file.at("i64")), (Numbers<int64_t>{-(int64_t{1} << 40)}));
  EXPECT_EQ(file.read<int32_t>(file.at("i32")), (Numbers<int32_t>{7, -8}));
  EXPECT_EQ(file.read<float>(file.at("scalar é")), (Numbers<float>{42}));
  EXPECT_TRUE(file.at("scalar é").dims.empty());
  EXPECT_TRUE(file.read<float>(file.at("nothing")).empty());
  EXPECT_EQ(file.bytes(file.at("u8"))[1], std::byte{255});
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(SafetensorsFile, RefusesWrongTypesRoomsAndNames) {
  const SafetensorsFile file(kTestData / "all_types.safetensors");
  for (const char* tensor : {"flags", "i64", "i32", "i16", "i8", "u8"}) {
    EXPECT_THROW(file.read<float>(file.at(tensor)), IoError) << tensor;
    EXPECT_THROW(file.read<double>(file.at(tensor)), IoError) << tensor;
  }
  EXPECT_THROW(file.read<int64_t>(file.at("i32")), IoError);
  EXPECT_THROW(file.read<int32_t>(file.at("f32")), IoError);
  std::vector<float> small(5);
  EXPECT_THROW(file.read(file.at("f32"), std::span<float>(small)), InputError);
  EXPECT_THROW(file.at("absent"), IoError);
  EXPECT_THROW(SafetensorsFile(kTestData / "absent"), InputError);
}

TEST(SafetensorsFile, SurvivesMoves) {
  SafetensorsFile first(kTestData / "all_types.safetensors");
  const SafetensorsFile second = std::move(first);
  EXPECT_EQ(second.read<int32_t>(second.at("i32")), (Numbers<int32_t>{7, -8}));
}

TEST(DType, TableIsInOrder) {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::string text(name(dtype));
    if (dtype != DType::boolean) {
      const auto bits = std::stoul(text.substr(text.find_first_of("0123456789")));
      EXPECT_EQ(size_of(dtype) * 8, bits) << text;
    }
    const size_t bytes = size_of(dtype);
    const std::string header =
        R"({"x":{"dtype":")" + text + R"(","shape":[1],"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
    EXPECT_EQ(parse(with_length(header, bytes)).tensors[0].dtype, dtype);
  }
}

TEST(Float16, EveryHalfEqualsItsFormula) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const double sign = bits >> 15 ? -1 : 1;
    const float value = float_from_half(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), fraction != 0) << bits;
      EXPECT_EQ(std::isinf(value), fraction == 0) << bits;
    } else {
      const double expected = exponent == 0 ? fraction * 0x1p-24 : std::ldexp(1024 + fraction, exponent - 25);
      EXPECT_EQ(value, sign * expected) << bits;
    }
    EXPECT_EQ(std::signbit(value), sign < 0) << bits;
  }
}

TEST(Float16, BrainFloatIsTheUpperHalf) {
  EXPECT_EQ(float_from_bfloat16(0x3F80), 1.0f);
  EXPECT_EQ(float_from_bfloat16(0xC049), -3.140625f);
  EXPECT_TRUE(std::isnan(float_from_bfloat16(0x7FC0)));
}

struct Example {
  std::vector<double> moments = {0.5, 0.25, 0.125, 1e-300};
  std::vector<int64_t> step = {123456789012};
  std::vector<float> weight = {1, 0.1f, -2};
  std::vector<int32_t> order = {5, -6};

  void add_to(SafetensorsWriter& writer) const {
    writer.set_metadata("qtf", "1");
    writer.set_metadata("format", "pt");
    writer.add("weight", {3}, weight);
    writer.add("moments", {2, 2}, moments);
    writer.add("order", {2, 1}, order);
    writer.add("step", {1}, step);
  }
};

TEST(SafetensorsWriter, WritesTheBytesOfAnIndependentWriter) {
  TemporaryFolder folder;
  const Example example;
  SafetensorsWriter writer;
  example.add_to(writer);
  for (int i = 0; i < 2; ++i) {
    writer.write(folder / "file");
    EXPECT_EQ(read_file(folder / "file"), read_file(kTestData / "written.safetensors"));
  }
}

TEST(SafetensorsWriter, ReadGivesBackWhatWasWritten) {
  TemporaryFolder folder;
  Example example;
  example.weight = {NAN, -0.0f, std::numeric_limits<float>::denorm_min()};
  SafetensorsWriter writer;
  example.add_to(writer);
  writer.add_owned("owned \"quoted\"\n", {1, 2, 1}, {3, 4});
  writer.add("empty", {4, 0}, std::span<const float>());
  writer.write(folder / "file");

  const SafetensorsFile file(folder / "file");
  EXPECT_EQ(file.metadata().at("qtf"), "1");
  EXPECT_EQ(file.read<double>(file.at("moments")), example.moments);
  EXPECT_EQ(file.read<int64_t>(file.at("step")), example.step);
  EXPECT_EQ(file.read<int32_t>(file.at("order")), example.order);
  EXPECT_EQ(file.read<float>(file.at("owned \"quoted\"\n")), (Numbers<float>{3, 4}));
  EXPECT_EQ(file.at("empty").dims, (std::vector<int64_t>{4, 0}));
  const auto weight = file.bytes(file.at("weight"));
  EXPECT_EQ(std::memcmp(weight.data(), example.weight.data(), weight.size()), 0) << "bits, NaN too";
  for (const TensorInfo& tensor : file.tensors()) {
    EXPECT_EQ(tensor.offset % size_of(tensor.dtype), 0u) << tensor.name;
  }
  EXPECT_EQ(file.tensors()[0].offset % 64, 0u);
}

TEST(SafetensorsWriter, RoundsToSixteenBits) {
  const TemporaryFolder folder;
  const Numbers<float> values = {1, -2.5f, 0.1f, 65504};
  SafetensorsWriter writer;
  writer.add_as(DType::f16, "f16", {2, 2}, values);
  writer.add_as(DType::f32, "f32", {4}, values);
  writer.add_as(DType::bf16, "bf16", {4}, values);
  EXPECT_THROW(writer.add_as(DType::f16, "large", {1}, Numbers<float>{1e6f}), InputError);
  writer.write(folder / "x.safetensors");
  const SafetensorsFile file(folder / "x.safetensors");
  EXPECT_EQ(file.tensors().front().name, "f32") << "wider types first";
  EXPECT_EQ(file.at("f16").dtype, DType::f16);
  EXPECT_EQ(file.read<float>(file.at("f32")), values);
  EXPECT_EQ(file.read<float>(file.at("f16")), (Numbers<float>{1, -2.5f, 0x1.998p-4f, 65504}));
  EXPECT_EQ(file.read<float>(file.at("bf16")), (Numbers<float>{1, -2.5f, 0x1.9ap-4f, 65536}));
}

TEST(SafetensorsWriter, WritesAFileWithoutTensors) {
  TemporaryFolder folder;
  SafetensorsWriter().write(folder / "file");
  EXPECT_TRUE(SafetensorsFile(folder / "file").tensors().empty());
}

TEST(SafetensorsWriter, RefusesWhatCannotBeWritten) {
  SafetensorsWriter writer;
  const std::vector<float> data = {1, 2, 3};
  writer.add("x", {3}, data);
  EXPECT_THROW(writer.add("x", {3}, data), InputError);
  EXPECT_THROW(writer.add("__metadata__", {3}, data), InputError);
  EXPECT_THROW(writer.add("\xFF", {3}, data), InputError);
  EXPECT_THROW(writer.add("y", {2}, data), InputError);
  EXPECT_THROW(writer.add("y", {-1, -3}, data), InputError);
  EXPECT_THROW(writer.add("y", {int64_t{1} << 40, int64_t{1} << 40}, data), InputError);
  EXPECT_THROW(writer.set_metadata("\xFF", "value"), InputError);
  EXPECT_THROW(writer.set_metadata("key", "\xFF"), InputError);
  EXPECT_THROW(writer.write("/nowhere/file"), IoError);
}

constexpr const char* kGood = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

TEST(ParseSafetensors, TakesTheValid) {
  EXPECT_EQ(error_of(kGood, 8), "");
  EXPECT_EQ(error_of("{}", 0), "");
  EXPECT_EQ(error_of("{}   \n", 0), "");
  EXPECT_EQ(error_of(R"({"__metadata__":{}})", 0), "");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},
                         "b":{"data_offsets":[0,2],"shape":[2,1],"dtype":"U8"},
                         "c":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                     2),
            "");
}

TEST(ParseSafetensors, RefusesCutFiles) {
  const std::string whole = with_length(kGood, 8);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(parse(whole.substr(0, size)), IoError) << size;
  }
  EXPECT_THROW(parse(whole + "x"), IoError);
}

TEST(ParseSafetensors, RefusesImpossibleHeaderLengths) {
  for (uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}, uint64_t{100'000'000}}) {
    std::string file = with_length(kGood, 8);
    std::memcpy(file.data(), &length, sizeof length);
    EXPECT_THROW(parse(file), IoError) << length;
  }
}

/// kGood with one piece replaced.
std::string changed(const std::string& from, const std::string& to) {
  std::string header = kGood;
  return header.replace(header.find(from), from.size(), to);
}

TEST(ParseSafetensors, RefusesHostileHeaders) {
  const std::string deep(1'000'000, '[');
  std::string many_dims = "1";
  for (int i = 0; i < 32; ++i) many_dims += ",1";
  const std::pair<std::string, const char*> cases[] = {
      {"", "not JSON"},
      {"[]", "not JSON"},
      {"\xEF\xBB\xBF{}", "not JSON"},
      {std::string("{}\0", 3), "not JSON"},
      {"{", "not valid JSON"},
      {"{}{}", "not valid JSON"},
      {"{\"\xFF\":1}", "not valid JSON"},
      {deep, "not JSON"},
      {R"({"x":)" + deep, "unexpected a list"},
      {changed("[2]", deep), "unexpected a list"},
      {changed("\"F32\"", R"({"a":{"a":{}}})"), "unexpected an object"},
      {R"({"x":null})", "unexpected null"},
      {R"({"x":true})", "unexpected true or false"},
      {R"({"x":1})", "unexpected a number"},
      {R"({"x":"y"})", "unexpected a text"},
      {R"({"__metadata__":{"a":1}})", "unexpected a number"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", "two entries"},
      {R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ comes twice"},
      {R"({"x":{"dtype":"F32","shape":[2]}})", "a tensor needs"},
      {changed("\"dtype\"", R"("extra":1,"dtype")"), "unknown field extra"},
      {changed("\"shape\"", R"("dtype":"F32","shape")"), "field dtype comes twice"},
      {changed("[2]", "[-2]"), "a negative number"},
      {changed("[2]", "[2.0]"), "a fraction"},
      {changed("[2]", "[18446744073709551616]"), "too large a number"},
      {changed("[2]", "[9223372036854775808]"), "a dim is too large"},
      {changed("[2]", "[" + many_dims + "]"), "more than 32 dims"},
      {changed("[2]", "[4294967296,4294967296,2]"), "cannot have 8 bytes"},
      {changed("[2]", "[4611686018427387906]"), "cannot have 8 bytes"},
      {changed("[2]", "[3]"), "cannot have 8 bytes"},
      {changed("F32", "F33"), "unknown type 'F33'"},
      {changed("F32", "a\\nb"), "unknown type 'a?b'"},
      {changed("F32", std::string(1000, 'y')), "yyy...'"},
      {changed("[0,8]", "[0]"), "needs two numbers"},
      {changed("[0,8]", "[0,8,8]"), "more than two numbers"},
      {changed("[0,8]", "[8,0]"), "lies at bytes 8 to 0"},
      {changed("[0,8]", "[0,9]"), "lies at bytes 0 to 9 of 8"},
      {changed("[0,8]", "[18446744073709551608,18446744073709551615]"), "lies at bytes"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
       "overlap"},
      {R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
       "gaps"},
      {R"({"x":{"dtype":"U8","shape":[7],"data_offsets":[1,8]}})", "gaps"},
      {R"({"x":{"dtype":"U8","shape":[7],"data_offsets":[0,7]}})", "the tensors end at byte"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"x":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
       "two tensors are called x"},
  };
  for (const auto& [header, expected] : cases) {
    const std::string error = error_of(header, 8);
    EXPECT_NE(error.find(expected), std::string::npos) << header.substr(0, 200) << "\n" << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << "one line";
    EXPECT_NE(error.find("byte"), std::string::npos) << error;
    EXPECT_TRUE(error.starts_with("[safetensors] x.safetensors: ")) << error;
  }
}

TEST(ParseSafetensors, RefusesMetadataThatNests) {
  const std::string deep(1'000'000, '{');
  EXPECT_NE(error_of(R"({"__metadata__":)" + deep, 0), "");
  EXPECT_NE(error_of(R"({"__metadata__":{"a":{}}})", 0), "");
}

}  // namespace
}  // namespace qtf::io
