// Every kind of bad input: exit status 2, one line that says what to do, and nothing written or lost.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

/// `args` with another value of a flag.
Words with(Words args, const std::string& flag, const std::string& value) {
  *(std::find(args.begin(), args.end(), flag) + 1) = value;
  return args;
}

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void expect_one_line(const Result& result, const std::string& part) {
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_TRUE(result.err.starts_with("qtf: ")) << result.err;
  EXPECT_NE(result.err.find(part), std::string::npos) << "expected: " << part << "\n" << result.err;
}

class BadInput : public testing::Test {
 protected:
  /// Calls and checks all that a refusal must be.
  void refuse(const Words& args, const std::string& part) const {
    SCOPED_TRACE(fmt::format("qtf {}", fmt::join(args, " ")));
    const auto before = place_.snapshot();
    const Result result = call(args);
    expect_one_line(result, part);
    // A resumed run has told its plan when it meets the checkpoint.
    if (args.size() < 2 || args[1] != "--resume") {
      EXPECT_EQ(result.out, "");
    }
    EXPECT_TRUE(place_.snapshot() == before) << "something was written or lost";
  }
  /// Refuses a training run into a folder that is not there, and does not make it.
  void refuse_training(const Words& more, const std::string& part) const {
    refuse(place_.train_call("new/out", more), part);
    EXPECT_FALSE(fs::exists(place_ / "new"));
  }

  const Workplace place_;
};

TEST_F(BadInput, RankPolicies) {
  const std::string dense = place_.train("dense");
  const std::string nested = place_.train("nested", {"--shape", "ffn=chain:rank=8", "--levels", "4"});
  auto uncalibrated = nlohmann::json::parse(read_file(nested + "/config.json"));
  uncalibrated.at("qtf").erase("rank_policy");
  fs::copy(nested, place_ / "raw");
  place_.write("raw/config.json", uncalibrated.dump());
  const struct {
    std::string model;
    Words more;
    std::string reason;
  } cases[] = {
      {dense, {"--rank-policy", "entropy"}, "no nested levels to choose from; make them with"},
      {dense, {"--rank-policy", "fixed:1"}, "no nested levels"},
      {dense, {"--mean-rank", "0.5"}, "no nested levels"},
      {place_ / "raw",
       {"--rank-policy", "entropy"},
       "not calibrated for the policy entropy; do it once with qtf calibrate"},
      {nested, {"--rank-policy", "entopy"}, "unknown policy 'entopy' (did you mean entropy?)"},
      {nested, {"--rank-policy", "fixed:5"}, "must be 1 (the smallest) to 4"},
      {nested, {"--rank-policy", "fixed:0"}, "must be 1 (the smallest) to 4"},
      {nested, {"--rank-policy", "fixed"}, "unknown policy 'fixed'"},
      {nested, {"--mean-rank", "0"}, "above 0 and below 1, got 0"},
      {nested, {"--mean-rank", "1"}, "above 0 and below 1, got 1"},
      {nested, {"--mean-rank", "-0.5"}, "above 0 and below 1, got -0.5"},
      {nested, {"--mean-rank", "nan"}, "--mean-rank"},
      {nested, {"--mean-rank", "1e-12"}, "above 0 and below 1"},
      {nested, {"--alpha", "-1"}, "--alpha"},
      {nested, {"--hysteresis", "1.5"}, "--hysteresis"},
      {nested,
       {"--rank-policy", "fixed:2", "--mean-rank", "0.5"},
       "leave --mean-rank, --alpha and --hysteresis out"},
      {nested, {"--rank-policy", "entropy", "--rank-seed", "2"}, "--rank-seed is for --rank-policy random"},
      {nested, {"--rank-seed", "2"}, "--rank-seed is for --rank-policy random"},
  };
  for (const auto& c : cases) {
    refuse(Words{"eval", c.model, "--text", place_.book()} + c.more, c.reason);
    refuse(Words{"generate", c.model, "--prompt", "A"} + c.more, c.reason);
  }
  refuse_training({"--rank-policy", "entropy"}, "add --levels 4");
  refuse_training(
      {"--rank-policy", "entropy", "--mean-rank", "1", "--shape", "ffn=chain:rank=8", "--levels", "4"},
      "above 0 and below 1");
  refuse_training({"--mean-rank", "0.4"}, "add --rank-policy entropy");
  refuse_training({"--rank-policy", "random"}, "--rank-policy");
  const Words generate = {"generate", nested, "--prompt", "A"};
  for (const char* budget : {"--max-latency-ms", "--max-energy-per-query"}) {
    for (const char* value : {"0", "-1"}) refuse(generate + Words{budget, value}, "must be above 0");
    for (const char* value : {"nan", "fast", "3MB"}) refuse(generate + Words{budget, value}, "expected");
    refuse({"generate", dense, "--prompt", "A", budget, "5"}, "no nested levels");
    refuse(generate + Words{budget, "5", "--rank-policy", "fixed:1"}, "fixed:K has none");
  }
  refuse(generate + Words{"--max-latency-ms", "5J"}, "'J' measures an energy");
  refuse(generate + Words{"--max-energy-per-query", "5ms"}, "'ms' measures a");
  for (const char* intensity : {"0", "-4", "nan", "inf", "400kg", "x"})
    refuse(generate + Words{"--watts", "9", "--grid-intensity", intensity}, "grams of CO2 a kWh above 0");
  for (const char* watts : {"0", "-1", "nan", "5..", "7..3"})
    refuse(generate + Words{"--max-energy-per-query", "5", "--watts", watts}, "--watts");
  refuse(generate + Words{"--decisions", "x"}, "--decisions records what --max-latency-ms or");
  const Words calibrate = {"calibrate", nested, "--text", place_.book()};
  refuse(calibrate + Words{"--mean-rank", "1"}, "above 0 and below 1");
  refuse(calibrate + Words{"--hysteresis", "-1"}, "--hysteresis");
  refuse(calibrate + Words{"--signal", "moon"}, "choose one of entropy, gate, output, surprise, circuit");
  refuse(calibrate + Words{"--signal", "random"}, "no signal that is calibrated");
  refuse(calibrate + Words{"--signal", "circuit"}, "no quantum layer");
  refuse(calibrate + Words{"--tokens", "1"}, "--tokens");
  refuse({"calibrate", dense, "--text", place_.book()}, "no nested levels");
  refuse({"calibrate", nested, "--text", place_.write("one.txt", "x")}, "give more text");
  refuse({"calibrate", place_.book(), "--text", place_.book()}, "is no model folder");
}

TEST_F(BadInput, Texts) {
  const std::string model = place_.train("model");
  fs::create_directory(place_ / "empty_folder");
  place_.write("mixed/a.txt", "fine");
  const struct {
    std::string path, reason;
  } cases[] = {
      {place_ / "nowhere.txt", "no such file or folder; check the path"},
      {"", "no such file or folder"},
      {place_.write("empty.txt", ""), "is empty; give a text file"},
      {place_ / "empty_folder", "holds no text; give a text file"},
      {place_.write("binary.txt", std::string("some\0bytes", 10)), "NUL at byte 4; give a text file"},
      {place_.write("latin1.txt", "na\xEFve text"), "not valid UTF-8 at byte 2; convert it"},
      {place_.write("cut.txt", "na\xC3"), "not valid UTF-8 at byte 2"},
      {place_.write("utf16.txt", "\xFF\xFEh\x01"), "UTF-16; convert it"},
      {place_.write("mixed/b.txt", "\xFF"), "not valid UTF-8 at byte 0"},
      {place_ / "mixed", "b.txt is not valid UTF-8"},
  };
  for (const auto& c : cases) {
    const Words as_train = {"train", "--train", c.path, "--out", place_ / "new", "--steps", "1"};
    refuse(as_train, c.reason);
    refuse(as_train + Words{"--from", model}, c.reason);
    refuse(as_train + Words{"--preset", "nano", "--tokenizer", "bytes"}, c.reason);
    refuse_training({"--valid", c.path}, c.reason);
    refuse({"eval", model, "--text", c.path}, c.reason);
    refuse({"eval", model, "--text", c.path, "--separator", "x"}, c.reason);
  }
}

TEST_F(BadInput, QuantumLayers) {
  refuse_training({"--quantum", "qubits=6,fraction=0.3"}, "must be above 0 and below 0.3, got 0.3");
  refuse_training({"--quantum", "qubits=40"}, "qubits must be 1 to 16, got 40");
  refuse_training({"--quantum", "ansatz=stronly"}, "unknown ansatz 'stronly' (did you mean strongly?)");
  refuse_training({"--quantum", "wires=3"}, "unknown key 'wires'; choose among qubits, layers");
  refuse_training({"--quantum", ""}, "expected KEY=VALUE such as qubits=6");
  const std::string dense = place_.train("dense"),
                    quantum = place_.train("quantum", {"--quantum", "qubits=2,layers=1"}),
                    classical =
                        place_.train("classical", {"--quantum", "qubits=2,layers=1,ansatz=classical"});
  refuse({"train", "--train", place_.book(), "--from", quantum, "--quantum", "qubits=3", "--out",
          place_ / "new", "--steps", "1"},
         "--quantum contradicts --from, whose model has a quantum layer; leave it out");
  refuse({"eval", dense, "--text", place_.book(), "--shots", "10"},
         "--shots and --noise are for models with");
  refuse({"eval", quantum, "--text", place_.book(), "--noise", "depolarising=0.1"}, "depolarizing");
  refuse({"eval", classical, "--text", place_.book(), "--shots", "10"},
         "a classical map, which has no shots");
  refuse({"compress", quantum, "--ratio", "2", "--calibrate", place_.book(), "--out", place_ / "new"},
         "a model with a quantum layer cannot be compressed; leave the layer out first");
}

TEST_F(BadInput, TextsThatAreTooShort) {
  const std::string model = place_.train("model");
  const std::string text = place_.write("short.txt", "only twenty letters.");
  const std::string letter = place_.write("letter.txt", "a");
  refuse({"train", "--train", text, "--out", place_ / "new", "--preset", "nano", "--tokenizer", "bytes",
          "--context", "32", "--steps", "1"},
         "has 19 tokens, but one sequence needs 33; give more text or a smaller --context");
  refuse_training({"--valid", letter}, "the validation text has 1 tokens; give more");
  refuse({"eval", model, "--text", letter}, "the text has 1 tokens; at least 2 are needed");
  refuse({"eval", model, "--text", letter, "--separator", "|"}, "no document has two tokens");
  refuse_training({"--tokenizer", "unigram", "--vocabulary", "60000"}, "too short for a vocabulary of 60000");
}

TEST_F(BadInput, SizesAndShapesThatDoNotFit) {
  const struct {
    Words flags;
    std::string reason;
  } cases[] = {
      {{"--width", "33"},
       "width 33 is not a multiple of 4 heads; the nearest that fit are width 32 or 3 heads"},
      {{"--heads", "5"}, "the nearest that fit are width 30 or 4 heads"},
      {{"--kv-heads", "3"}, "the nearest that fit are 2 kv-heads"},
      {{"--width", "20"}, "even head size, got 20 / 4 = 5; the nearest width that fits is 24"},
      {{"--family", "gpt2", "--kv-heads", "2"}, "as many kv-heads as heads (4), got 2"},
      {{"--width", "0"}, "--width must be at least 1"},
      {{"--heads", "-1"}, "--heads must be at least 1"},
      {{"--width", "99999999"}, "width must be 1 to 65536"},
      {{"--layers", "1.5"}, "--layers"},
      {{"--context", "1"}, "--context must be at least 2"},
      {{"--preset", "huge"}, "--preset must be one of nano, tiny, small, medium, large"},
      {{"--preset", "nanno"}, "did you mean nano?"},
      {{"--ratio", "1000"}, "the largest for this model is"},
      {{"--ratio", "0.5"}, "--ratio must be at least 1"},
      {{"--ratio", "inf"}, "--ratio must be a number"},
      {{"--ratio", "2", "--ratio-shape", "chian"}, "did you mean chain?"},
      {{"--shape", "ffn=chain:rank=1000"}, "the nearest that fits is 32"},
      {{"--shape", "ffn=chain:rank=0"}, "rank"},
      {{"--shape", "ffn=chain:rank=8,levels=4x6"}, "levels must increase from 1 or more to the rank 8"},
      {{"--shape", "up_proj=mpo:rank=2,out=3x5,in=4x8"},
       "must multiply to the width 88; the nearest that do are out="},
      {{"--shape", "ffn=chian:rank=2"}, "did you mean chain?"},
      {{"--shape", "ffn=chain:rnak=2"}, "did you mean rank?"},
      {{"--shape", "fnf=chain:rank=2"},
       "nothing in this model is called 'fnf' (did you mean ffn?); choose one of"},
      {{"--shape", "head=chain:rank=2"}, "the head is tied to the embedding"},
      {{"--shape", "chain"}, "expected PART=SHAPE"},
      {{"--levels", "2"}, "no map is a chain"},
      {{"--sandwich", "turns"}, "--sandwich turns is for nested levels"},
      {{"--levels", "5"}, "--levels must be from 1 to 4"},
      {{"--levels", "4", "--shape", "ffn=chain:rank=3"}, "rank 3, too small for 4 levels"},
  };
  for (const auto& c : cases) refuse_training(c.flags, c.reason);
}

TEST_F(BadInput, UnknownAndContradictoryFlags) {
  const std::string model = place_.train("model");
  const struct {
    Words flags;
    std::string reason;
  } cases[] = {
      {{"--stpes", "4"}, "unknown option --stpes for 'qtf train' (did you mean --steps?)"},
      {{"extra"}, "unexpected argument 'extra'"},
      {{"--steps", "4", "--minutes", "1"},
       "give exactly one of --steps, --epochs and --minutes (above 0), got 2"},
      {{"--steps", "4", "--epochs", "1"}, "got 2"},
      {{"--epochs", "0"}, "got 0"},
      {{"--minutes", "0"}, "got 0"},
      {{"--steps", "0"}, "--steps must be at least 1"},
      {{"--steps", "many"}, "--steps"},
      {{"--batch", "0"}, "--batch must be at least 1"},
      {{"--batch", "100000"}, "--batch must be 1 to 65536, got 100000"},
      {{"--learning-rate", "0"}, "--learning-rate must be above 0 and below 10, got 0"},
      {{"--learning-rate", "nan"}, "--learning-rate must be a number"},
      {{"--warmup", "1"}, "--warmup must be"},
      {{"--final-rate", "2"}, "--final-rate must be"},
      {{"--dropout", "1"}, "--dropout must be in [0, 1), got 1"},
      {{"--ema", "1"}, "--ema must be in [0, 1)"},
      {{"--beta1", "1"}, "--beta1 must be"},
      {{"--beta2", "-1"}, "--beta2 must be"},
      {{"--weight-decay", "-1"}, "--weight-decay must be"},
      {{"--guided", "1"}, "--guided must be"},
      {{"--guided", "0.5"}, "this model is dense; add --ratio or --shape"},
      {{"--clip", "-1"}, "--clip must be"},
      {{"--threads", "99999"}, "--threads must be from 0 to 1024"},
      {{"--seed", "-1"}, "--seed must be at least 0"},
      {{"--vocabulary", "300"},
       "contradicts --tokenizer bytes, which has 257 tokens; leave --vocabulary out"},
      {{"--ratio-shape", "mpo"}, "--ratio-shape needs --ratio"},
      {{"--richness", "ffn=2"}, "--richness needs --ratio"},
      {{"--dense-first", "0.5"}, "--dense-first is for chains by --ratio"},
      {{"--dense-first", "0.5", "--ratio", "2", "--ratio-shape", "btt"}, "--dense-first is for chains"},
      {{"--dense-first", "0.5", "--ratio", "2", "--from", model}, "--dense-first and --from contradict"},
      {{"--dense-first", "1", "--ratio", "2"}, "--dense-first must be from 0 to 0.95"},
      {{"--ratio", "1000"}, "the largest for this model is"},
      {{"--ratio", "2", "--richness", "fnn=2"}, "did you mean ffn?"},
      {{"--ratio", "2", "--richness", "ffn=0"}, "from 0.01 to 100"},
      {{"--vocabulary", "10"}, "--vocabulary must be at least 257"},
      {{"--resume"}, "no training run of qtf to go on with"},
  };
  for (const auto& c : cases) refuse_training(c.flags, c.reason);

  const Words tune = {"train", "--train",      place_.book(), "--from", model,
                      "--out", place_ / "new", "--steps",     "1"};
  for (const Words& flag : std::vector<Words>{{"--preset", "nano"},
                                              {"--family", "gpt2"},
                                              {"--width", "32"},
                                              {"--layers", "1"},
                                              {"--heads", "4"},
                                              {"--kv-heads", "2"},
                                              {"--feed-forward", "88"},
                                              {"--vocabulary", "300"},
                                              {"--context", "32"},
                                              {"--untied"},
                                              {"--tokenizer", "bytes"}}) {
    refuse(tune + flag, flag[0] + " contradicts --from");
  }
  refuse(tune + Words{"--ratio-shape", "mpo"}, "--ratio-shape needs --ratio");
  refuse(tune + Words{"--ratio", "1000"}, "the largest for this model is");
  refuse(tune + Words{"--levels", "2"}, "no map is a chain");
  const Words bare = {"train", "--train", place_.book(), "--out", place_ / "new", "--preset", "nano"};
  refuse(bare, "give exactly one of --steps, --epochs and --minutes");
  refuse({"train", "--out", place_ / "new", "--steps", "1"}, "--train FILE is missing");
  refuse({"train", "--train", place_.book(), "--steps", "1"}, "--out is missing");
  refuse({"trian"}, "did you mean train?");
  refuse({"evla"}, "did you mean eval?");
  refuse({"eval"}, "MODEL is missing");
  refuse({"eval", model}, "--text is missing");
  refuse({"eval", model, "--txet", "a"}, "did you mean --text?");
  refuse({"generate", model, "--tokens", "0"}, "--tokens must be from 1");
  refuse({"info"}, "MODEL is missing");
}

TEST_F(BadInput, Tokenizers) {
  const std::string broken = place_.write("broken/tokenizer.model", "not a model");
  for (const std::string& path :
       {place_ / "nowhere", broken, place_ / "broken", place_.book(), std::string("byte")}) {
    refuse(place_.train_call("new", {"--tokenizer", path}), "okenizer");
  }
}

TEST_F(BadInput, Teachers) {
  const std::string model = place_.train("model");
  refuse_training({"--teacher", place_ / "nowhere"}, "nowhere");
  refuse_training({"--teacher-weight", "0.5"}, "--teacher-weight needs --teacher; add it");
  refuse_training({"--teacher-temperature", "2"}, "--teacher-temperature needs --teacher; add it");
  refuse_training({"--teacher", model, "--teacher-weight", "0"}, "--teacher-weight must be above 0");
  refuse_training({"--teacher", model, "--teacher-temperature", "0"}, "--teacher-temperature must be");
  refuse_training({"--teacher", model, "--context", "64"}, "the teacher's context is 32");
  const Words bare = {"train",     "--train", place_.book(), "--out", place_ / "new", "--preset", "nano",
                      "--context", "32",      "--steps",     "1",     "--teacher",    model};
  std::string many_words;
  for (uint64_t i = 1; i < 2000; ++i) many_words += std::to_string(i * 2654435761U % 1000003) + " ";
  const std::string pieces = place_.train("pieces", {"--train", place_.write("words.txt", many_words),
                                                     "--tokenizer", "unigram", "--vocabulary", "300"});
  refuse(bare + Words{"--tokenizer", pieces}, "has another tokenizer");
  refuse(bare + Words{"--vocabulary", "300"}, "--vocabulary 300 contradicts --teacher");
}

TEST_F(BadInput, OutputFolders) {
  place_.write("foreign/letter.txt", "dear");
  place_.write("hidden/.profile", "x");
  place_.write("file", "x");
  const std::string model = place_.train("model");
  refuse(place_.train_call("foreign"),
         "exists and is not a model folder (it holds letter.txt); choose another");
  refuse(place_.train_call("hidden"), "it holds .profile");
  refuse(place_.train_call("file"), "is a file, not a folder");
  refuse(place_.train_call("file/below"), "choose another --out");
  refuse(place_.train_call("model"),
         "holds a model already; add --resume to go on with it, or choose another");
  refuse(place_.train_call("model/"), "holds a model already");
  refuse(with(place_.train_call("model"), "--out", ""), "--out is empty");
  const Words resume = {"train", "--resume", "--quiet", "--out"};
  refuse(resume + Words{place_ / "nowhere"}, "no training run of qtf to go on with");
  refuse(resume + Words{place_ / "foreign"}, "no training run of qtf to go on with");
  refuse(resume + Words{place_ / "file"}, "no training run of qtf to go on with");
  refuse(resume + Words{model, "--threads", "2"}, "the run is finished");
}

TEST_F(BadInput, OutputFoldersInUse) {
  const std::string model = place_.train("model");
  fs::create_directory(place_ / "begun");
  write_file_atomically(place_ / "begun/.lock", "");
  const FolderLock one(model), two(place_ / "begun");
  refuse(place_.train_call("begun"), "is in use by another run; wait for it or choose another folder");
  refuse({"train", "--resume", "--out", model, "--quiet", "--threads", "2"}, "is in use by another run");
}

TEST_F(BadInput, ResumedWithSomethingElse) {
  // A run that was killed: a checkpoint is there, the end is not.
  const std::string run = place_ / "run";
  const Words begin =
      place_.train_call("run", {"--steps", "3000", "--checkpoint-steps", "1", "--dropout", "0.1"});
  const pid_t child = fork();
  if (child == 0) _exit(call(begin).status);
  while (!fs::exists(run + "/checkpoint.safetensors")) usleep(1000);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(fs::exists(run + "/checkpoint.safetensors"));

  const Words resume = {"train", "--resume", "--out", run, "--quiet", "--threads", "2"};
  refuse(resume + Words{"--seed", "2"},
         "was started without --seed; leave --seed out, or train into another --out");
  refuse(resume + Words{"--steps", "9"}, "was started with --steps 3000; leave --steps out");
  refuse(resume + Words{"--minutes", "1"}, "was started without --minutes");
  refuse(resume + Words{"--from", run}, "was started without --from");
  refuse(resume + Words{"--train", place_.write("copy.txt", small_book())}, "was started with --train");
  refuse(with(resume, "--threads", "1"),
         "threads = 2, this run has 1; resume with the same settings, or train into another --out");

  place_.write("book.txt", small_book() + "more");
  refuse(resume, "train_text = ");
  fs::remove(place_.book());
  refuse(resume, "book.txt: no such file or folder");
  place_.write("book.txt", small_book());

  const auto damage = [&](const std::string& file, const std::string& contents, const std::string& reason) {
    const std::string whole = read_file(run + "/" + file);
    write_file_atomically(run + "/" + file, contents);
    refuse(resume, reason);
    write_file_atomically(run + "/" + file, whole);
  };
  const std::string checkpoint = read_file(run + "/checkpoint.safetensors");
  damage("checkpoint.safetensors", checkpoint.substr(0, checkpoint.size() / 2), "checkpoint.safetensors");
  damage("checkpoint.safetensors", "", "checkpoint.safetensors");
  damage("train.json", "{", "train.json");
  damage("train.json", "[]", "train.json");
  damage("train.json", R"({"--train": [], "--steps": ["1"]})", "train.json");
  damage("train.json", R"({"--train": [1], "--steps": ["1"]})", "train.json");
  damage("config.json", "{", "config.json");
}

/// Ways to spoil a model folder, and what is said of it.
struct Damage {
  std::string name;
  std::function<void(const fs::path& folder)> apply;
  std::string reason;
};

void replace_in(const fs::path& file, const std::string& from, const std::string& to) {
  std::string text = read_file(file);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << file << " has no " << from;
  write_file_atomically(file, text.replace(at, from.size(), to));
}

void cut(const fs::path& file, double share) {
  const std::string text = read_file(file);
  write_file_atomically(file, text.substr(0, static_cast<size_t>(share * static_cast<double>(text.size()))));
}

/// Overwrites the last number of a file of floats.
void set_last_number(const fs::path& file, float value) {
  std::string text = read_file(file);
  std::memcpy(text.data() + text.size() - sizeof value, &value, sizeof value);
  write_file_atomically(file, text);
}

std::vector<Damage> damages(const std::string& other_tokenizer) {
  const std::string weights = "model.safetensors", config = "config.json";
  return {
      {"no_weights", [=](const fs::path& f) { fs::remove(f / weights); }, weights},
      {"empty_weights", [=](const fs::path& f) { cut(f / weights, 0); }, weights},
      {"half_the_weights", [=](const fs::path& f) { cut(f / weights, 0.5); }, weights},
      {"weights_without_end", [=](const fs::path& f) { cut(f / weights, 0.999); }, weights},
      {"foreign_weights", [=](const fs::path& f) { write_file_atomically(f / weights, "GGUF, not this"); },
       weights},
      {"nan", [=](const fs::path& f) { set_last_number(f / weights, NAN); }, "holds nan at element"},
      {"infinity", [=](const fs::path& f) { set_last_number(f / weights, INFINITY); },
       "holds inf at element"},
      {"renamed_tensor", [=](const fs::path& f) { replace_in(f / weights, "model.norm", "model.morn"); },
       weights},
      {"no_config", [=](const fs::path& f) { fs::remove(f / config); },
       "is not a model folder: it has no config.json"},
      {"empty_config", [=](const fs::path& f) { cut(f / config, 0); }, config},
      {"half_the_config", [=](const fs::path& f) { cut(f / config, 0.5); }, config},
      {"foreign_config", [=](const fs::path& f) { write_file_atomically(f / config, "[1]"); }, config},
      {"other_family", [=](const fs::path& f) { replace_in(f / config, "\"llama\"", "\"mamba\""); },
       "\"mamba\" is not supported; llama and gpt2 are"},
      {"newer_version",
       [=](const fs::path& f) { replace_in(f / config, "\"format_version\": 1", "\"format_version\": 2"); },
       "use a newer qtf"},
      {"other_width",
       [=](const fs::path& f) { replace_in(f / config, "\"hidden_size\": 32", "\"hidden_size\": 64"); },
       "64"},
      {"odd_heads",
       [=](const fs::path& f) {
         replace_in(f / config, "\"num_attention_heads\": 4", "\"num_attention_heads\": 5");
       },
       "not a multiple of 5 heads"},
      {"text_for_a_number",
       [=](const fs::path& f) { replace_in(f / config, "\"hidden_size\": 32", "\"hidden_size\": \"a\""); },
       "\"hidden_size\" must be a whole number"},
      {"other_layers",
       [=](const fs::path& f) {
         replace_in(f / config, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
       },
       "config.json does not know"},
      {"foreign_tokenizer", [=](const fs::path& f) { fs::copy_file(other_tokenizer, f / "tokenizer.model"); },
       "the tokenizer in this folder is not the one the model was trained with; put the original back"},
      {"broken_tokenizer", [=](const fs::path& f) { write_file_atomically(f / "tokenizer.model", "no"); },
       "tokenizer"},
      {"no_tokenizer", [=](const fs::path& f) { fs::remove(f / "tokenizer_config.json"); }, "tokenizer"},
  };
}

TEST_F(BadInput, DamagedAndForeignModels) {
  const std::string model = place_.train("model");
  place_.train("learned", {"--tokenizer", "bpe", "--vocabulary", "280"});
  for (const Damage& damage : damages(place_ / "learned/tokenizer.model")) {
    SCOPED_TRACE(damage.name);
    const std::string spoiled = place_ / ("spoiled_" + damage.name);
    fs::copy(model, spoiled, fs::copy_options::recursive);
    damage.apply(spoiled);
    refuse({"info", spoiled}, damage.reason);
    refuse({"eval", spoiled, "--text", place_.book()}, damage.reason);
    refuse({"eval", model, "--text", place_.book(), "--against", spoiled}, damage.reason);
    refuse({"generate", spoiled, "--prompt", "a"}, damage.reason);
    refuse({"train", "--train", place_.book(), "--from", spoiled, "--out", place_ / "new", "--steps", "1"},
           damage.reason);
    fs::remove_all(spoiled);
  }
  place_.write("foreign/letter.txt", "dear");
  place_.write("model.bin", "not llama2.c");
  place_.write("model.gguf", "GGUF");
  const struct {
    std::string path, reason;
  } cases[] = {{place_ / "nowhere", "there is no such model folder or file"},
               {"", "there is no such model"},
               {place_ / "foreign", "is not a model folder: it has no config.json"},
               {place_ / "model.bin", "model.bin"},
               {place_ / "model.gguf", "goes beyond the end at byte 4"}};
  for (const auto& c : cases) {
    refuse({"info", c.path}, c.reason);
    refuse({"eval", c.path, "--text", place_.book()}, c.reason);
    refuse({"generate", c.path, "--prompt", "a"}, c.reason);
    refuse({"train", "--train", place_.book(), "--from", c.path, "--out", place_ / "new", "--steps", "1"},
           c.reason);
  }
}

TEST_F(BadInput, EvaluationThatDoesNotFit) {
  const std::string model = place_.train("model");
  const Words eval = {"eval", model, "--text", place_.book()};
  refuse(eval + Words{"--context", "33"}, "--context must be 1 to the model's 32, got 33");
  refuse(eval + Words{"--stride", "33"}, "--stride must be 1 to the context of 32, got 33");
  refuse(eval + Words{"--context", "8", "--stride", "9"}, "--stride must be 1 to the context of 8, got 9");
  refuse(eval + Words{"--context", "-1"}, "--context must be at least 0");
  refuse(eval + Words{"--level", "2"}, "--level 2: this model has 1 level");
  refuse(eval + Words{"--level", "5"}, "--level must be from 0 to 4");
  refuse(eval + Words{"--separator", ""}, "separator must not be empty");
  place_.train("learned", {"--tokenizer", "bpe", "--vocabulary", "280"});
  refuse(eval + Words{"--against", place_ / "learned"},
         "have different tokenizers; only models with the same one");
  place_.train("narrow", {"--context", "16"});
  refuse(eval + Words{"--against", place_ / "narrow"}, "context of 16");
}

TEST_F(BadInput, GenerationThatDoesNotFit) {
  const std::string model = place_.train("model");
  const Words generate = {"generate", model, "--prompt"};
  refuse(generate + Words{std::string(33, 'a')},
         "the prompt has 33 tokens, the model's context is 32; shorten it");
  refuse(generate + Words{""}, "give it some text");
  refuse({"generate", model}, "give it some text");
  refuse(generate + Words{"na\xEFve"}, "UTF-8");
  refuse(generate + Words{"a", "--temperature", "-1"}, "--temperature must be at least 0");
  refuse(generate + Words{"a", "--top-p", "0"}, "top-p must be in (0, 1]");
  refuse(generate + Words{"a", "--min-p", "2"}, "--min-p must be from 0 to 1");
  refuse(generate + Words{"a", "--repeat-penalty", "0"}, "repeat-penalty must be above 0");
  refuse(generate + Words{"a", "--level", "2"}, "--level 2: this model has 1");
  refuse(generate + Words{"a", "--stop", ""}, "a stop text must not be empty");
}

/// Runs `body` in a child, so that limits and mounts are its own, and returns what a call said there.
Result in_child(const std::function<Result()>& body) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    const Result result = body();
    const bool told =
        write(ends[1], result.err.data(), result.err.size()) == static_cast<ssize_t>(result.err.size());
    _exit(told ? result.status : 99);
  }
  close(ends[1]);
  Result result;
  char buffer[4096];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    result.err.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return result;
}

constexpr int kNoNamespace = 77;

bool write_to(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  const bool done = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0) close(fd);
  return done;
}

/// Mounts an empty file system of `size` on `folder`, for this process alone.
bool mount_small_disk(const std::string& folder, const std::string& size) {
  const auto user = getuid(), group = getgid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return write_to("/proc/self/setgroups", "deny") &&
         write_to("/proc/self/uid_map", fmt::format("{0} {0} 1", user)) &&
         write_to("/proc/self/gid_map", fmt::format("{0} {0} 1", group)) &&
         mount("none", folder.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
}

TEST_F(BadInput, FullDisk) {
  fs::create_directory(place_ / "disk");
  for (const char* size : {"4k", "64k", "1m"}) {
    const Result result = in_child([&]() -> Result {
      if (!mount_small_disk(place_ / "disk", size)) return {kNoNamespace, {}, {}};
      Result said = call(place_.train_call("disk/new/out"));
      if (fs::exists(place_ / "disk/new")) said.err += "the folder is left";
      return said;
    });
    if (result.status == kNoNamespace) GTEST_SKIP() << "skipped: no user namespaces here";
    expect_one_line(result, "no space left on");
    EXPECT_NE(result.err.find("free some and run again"), std::string::npos) << result.err;
  }
}

/// Lets this process write no file beyond `bytes`: a portable stand-in for a disk that fills up.
void limit_files(rlim_t bytes) {
  signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

TEST_F(BadInput, DiskThatFillsUp) {
  const Words train =
      place_.train_call("out", {"--steps", "6", "--validate-every", "2", "--checkpoint-steps", "3"});
  // The text's tokens, the first settings, the tokenizer: each fails before the run begins.
  for (rlim_t bytes : {16, 200, 600}) {
    SCOPED_TRACE(bytes);
    const auto before = place_.snapshot();
    expect_one_line(in_child([&] {
                      limit_files(bytes);
                      return call(train);
                    }),
                    "[write]");
    EXPECT_TRUE(place_.snapshot() == before);
  }
  // Then the weights, and then the checkpoint, fail: the run stays as it was, and can go on.
  const std::string whole = place_.train("whole", {"--steps", "6", "--validate-every", "2"});
  const auto weights = [](const std::string& folder) { return read_file(folder + "/model.safetensors"); };
  const auto weight_bytes = static_cast<rlim_t>(fs::file_size(whole + "/model.safetensors"));
  const Words resume = {"train", "--resume", "--out", place_ / "out", "--quiet", "--threads", "2"};
  expect_one_line(in_child([&] {
                    limit_files(weight_bytes / 2);
                    return call(train);
                  }),
                  "model.safetensors");
  expect_one_line(in_child([&] {
                    limit_files(2 * weight_bytes);
                    return call(resume + Words{"--checkpoint-steps", "3"});
                  }),
                  "checkpoint.safetensors");
  const Result last = call(resume);
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_TRUE(weights(place_ / "out") == weights(whole));
}

}  // namespace
}  // namespace qtf::cli
