#include "qtf/quantum/reference_vectors.h"

#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

namespace fs = std::filesystem;

TEST(ReferenceVectors, AllOfPennyLanes) {
  const fs::path folder = fs::path(QTF_SHARED_DIR) / "reference/quantum";
  if (!fs::exists(folder)) GTEST_SKIP() << "skipped: no " << folder;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const Verification result = verify_reference_vectors(entry.path());
    EXPECT_LT(result.worst_error, 1e-12) << result.file << ": " << result.worst_case;
    EXPECT_GT(result.cases, 0);
    EXPECT_GT(result.numbers, result.cases);
    ++files;
  }
  EXPECT_GE(files, 10);
}

/// RY(x) on one wire: ⟨Z⟩ = cos x.
std::string small_file(double expectation) {
  return R"({"cases": [{"id": "one", "n": 1, "ansatz": "basic", "rotation": "Y", "layers": 1, "embed": "Y", "x": [0.0],
    "w": [0.0], "jac_x": [0], "expval_z": [)" +
         std::to_string(expectation) + "]}]}";
}

TEST(ReferenceVectors, FindsWhatIsWrong) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "good.json", small_file(1));
  write_file_atomically(folder / "bad.json", small_file(0.75));
  EXPECT_LT(verify_reference_vectors(folder / "good.json").worst_error, 1e-15);
  const Verification bad = verify_reference_vectors(folder / "bad.json");
  EXPECT_NEAR(bad.worst_error, 0.25, 1e-15);
  EXPECT_EQ(bad.worst_case, "one, expval_z");
}

TEST(ReferenceVectors, RefusesOtherFiles) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& text, const std::string& part) {
    write_file_atomically(folder / "x.json", text);
    try {
      verify_reference_vectors(folder / "x.json");
      FAIL() << text;
    } catch (const IoError& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  refused("no json", "no JSON object");
  refused("{}", "array \"cases\"");
  refused(R"({"cases": [{}]})", "no known kind");
  refused(R"({"cases": [{"gate": "Nonsense"}]})", "not in the table");
  refused(R"({"cases": [{"jac_x": [1]}]})", "case 0");
  refused(R"({"cases": [{"gate": "RX", "params": [1], "dim": 2, "re": [1], "im": [1]}]})", "has 2 numbers");
}

}  // namespace
}  // namespace qtf::quantum
