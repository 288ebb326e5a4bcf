#include <cmath>

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

void expect_refused(const Words& words, const std::string& part) {
  const Result result = call(words);
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

TEST(Circuit, ExportsWhatItReads) {
  const Workplace place;
  const Result exported = call({"circuit", "export", "--qubits", "3", "--layers", "1", "--measure"});
  ASSERT_EQ(exported.status, 0) << exported.err;
  const std::string file = place.write("c.qasm", exported.out);
  EXPECT_EQ(call({"circuit", "export", file, "--measure"}).out, exported.out);
  EXPECT_EQ(call({"circuit", "export", file, "--measure", "--out", place / "d.qasm"}).out, "");
  EXPECT_EQ(read_file(place / "d.qasm"), exported.out);
  // Bound to the same numbers, it runs to the same values.
  const Words numbers = {"--inputs", "0.1,0.2,0.3", "--weights", "1,2,3,4,5,6,7,8,9"};
  Words bound = {"circuit", "export", file, "--bind"}, run = {"circuit", "run", file};
  bound.insert(bound.end(), numbers.begin(), numbers.end()),
      run.insert(run.end(), numbers.begin(), numbers.end());
  const std::string plain = place.write("bound.qasm", call(bound).out);
  EXPECT_EQ(call_json(run).at("expectations"), call_json({"circuit", "run", plain}).at("expectations"));
}

TEST(Circuit, RunsExactly) {
  // RY(x)|0⟩ has ⟨Z⟩ = cos x and ⟨X⟩ = sin x.
  const Words words = {"circuit",  "run", "--qubits",     "1", "--layers",     "0",
                       "--inputs", "0.7", "--observable", "Z", "--observable", "X"};
  const json result = call_json(words);
  EXPECT_NEAR(result.at("expectations").at("Z"), std::cos(0.7), 1e-15);
  EXPECT_NEAR(result.at("expectations").at("X"), std::sin(0.7), 1e-15);
  const std::string text = call(words).out;
  EXPECT_NE(text.find("⟨Z⟩              +0.764842"), std::string::npos) << text;
  EXPECT_NE(text.find("P(0)             0.882421"), std::string::npos) << text;
}

TEST(Circuit, BellPairIsEntangled) {
  const Workplace place;
  const std::string file = place.write("bell.qasm", "qubit[2] q; h q[0]; cx q[0], q[1];");
  const json result = call_json({"circuit", "run", file, "--observable", "ZZ", "--observable", "XX"});
  EXPECT_NEAR(result.at("entropies").at(0), std::log(2), 1e-14);
  EXPECT_NEAR(result.at("expectations").at("ZZ"), 1, 1e-14);
  EXPECT_NEAR(result.at("expectations").at("XX"), 1, 1e-14);
}

TEST(Circuit, ShotsAndNoiseComeWithTheirErrors) {
  const Words base = {"circuit",      "run",   "--qubits",     "2", "--layers", "1",
                      "--observable", "X0 Y1", "--observable", "Z0"};
  const auto with = [&](const Words& more) {
    Words words = base;
    words.insert(words.end(), more.begin(), more.end());
    return call_json(words);
  };
  for (const Words& noise : {Words{}, Words{"--noise", "depolarizing=0.1,readout=0.05"}}) {
    Words shots = noise;
    shots.insert(shots.end(), {"--shots", "4000"});
    const json exact = with(noise), sampled = with(shots);
    for (const char* name : {"X0 Y1", "Z0"}) {
      EXPECT_NEAR(exact.at("expectations").at(name).get<double>(),
                  sampled.at("expectations").at(name).get<double>(),
                  5 * sampled.at("standard_errors").at(name).get<double>());
    }
    EXPECT_EQ(exact.contains("entropies"), noise.empty());
  }
  EXPECT_NE(call({"circuit", "run", "--shots", "10"}).out.find("±"), std::string::npos);
}

TEST(Circuit, DrawsAndCounts) {
  const Workplace place;
  EXPECT_EQ(call({"circuit", "draw", "--svg", "--out", place / "c.svg"}).status, 0);
  EXPECT_TRUE(read_file(place / "c.svg").starts_with("<svg"));
  const json counted = call_json({"circuit", "resources", "--shots", "100"});
  EXPECT_EQ(counted.at("qubits"), 6);
  EXPECT_EQ(counted.at("by_gate").at("CNOT"), 12);
  EXPECT_EQ(counted.at("gradient_shots"), 100 * 2 * (6 + 36));
  const std::string text = call({"circuit", "resources"}).out;
  for (const char* said : {"CNOT", "depth", "84 circuits a gradient", "1.02 kB"}) {
    EXPECT_NE(text.find(said), std::string::npos) << text;
  }
}

TEST(Circuit, VerifyExitsWithOneBeyondTheTolerance) {
  const Workplace place;
  const auto file = [&](const std::string& name, const std::string& z) {
    return place.write(name,
                       R"({"cases": [{"id": "one", "n": 1, "ansatz": "basic", "rotation": "Y", "layers": 1,
      "x": [0.0], "w": [0.0], "jac_x": [0], "expval_z": [)" +
                           z + "]}]}");
  };
  const std::string good = file("good.json", "1"), bad = file("bad.json", "0.9");
  EXPECT_EQ(call({"circuit", "verify", good}).status, 0);
  const Result both = call({"circuit", "verify", good, bad});
  EXPECT_EQ(both.status, 1);
  EXPECT_NE(both.out.find("worst error 1.0e-01, tolerance 1e-12: TOO FAR (one, expval_z)"), std::string::npos)
      << both.out;
  EXPECT_NE(both.out.find(": ok\n"), std::string::npos);
  EXPECT_EQ(call({"circuit", "verify", bad, "--tolerance", "0.2"}).status, 0);
  const json list = json::parse(call({"circuit", "verify", good, bad, "--json"}).out);
  EXPECT_EQ(list.at(0).at("ok"), true);
  EXPECT_EQ(list.at(1).at("ok"), false);
}

TEST(Circuit, RefusesBadInput) {
  const Workplace place;
  const std::string broken = place.write("broken.qasm", "qubit[2] q;\nh q[7];\n");
  const std::string fine = place.write("fine.qasm", "qubit q; h q;");
  expect_refused({"circuit", "spin"}, "ACTION must be one of draw, run");
  expect_refused({"circuit", "draw", broken}, "broken.qasm:2:5] expected a wire from 0 to 1");
  expect_refused({"circuit", "draw", place / "missing.qasm"}, "missing.qasm");
  expect_refused({"circuit", "draw", fine, fine}, "give one circuit's FILE");
  expect_refused({"circuit", "draw", fine, "--qubits", "3"}, "--qubits describes a template");
  expect_refused({"circuit", "draw", "--qubits", "17"}, "from 1 to 16");
  expect_refused({"circuit", "run", "--inputs", "1,2"}, "--inputs must give 6 numbers, got 2");
  expect_refused({"circuit", "run", "--inputs", "1,x"}, "'x' is not a number");
  expect_refused({"circuit", "run", "--inputs", "1,nan,1,1,1,1"}, "input 1 is nan");
  expect_refused({"circuit", "run", "--observable", "ZZ"}, "'ZZ' has 2 letters");
  expect_refused({"circuit", "run", "--noise", "loud=1"}, "unknown channel 'loud'");
  expect_refused({"circuit", "export", "--embedding", "amplitude"}, "no OpenQASM form");
  expect_refused({"circuit", "verify"}, "needs FILEs");
  expect_refused({"circuit", "verify", fine}, "no JSON object");
}

}  // namespace
}  // namespace qtf::cli
