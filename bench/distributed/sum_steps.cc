// What sums over ranks cost: under mpirun, seconds of a sum of n floats for several n, as JSON on rank 0.
// scaling.py runs it and fits a model to it.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "../options.h"
#include "qtf/cli/training_ranks.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_of_a_sum(qtf::train::Ranks& ranks, std::vector<float>& values) {
  const auto begin = Clock::now();
  ranks.sum(values);
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median_seconds(qtf::train::Ranks& ranks, size_t numbers, int repeat) {
  std::vector<float> values(numbers, 0.F);
  for (int i = 0; i < 3; ++i) ranks.sum(values);  // buffers and pages
  std::vector<double> seconds;
  for (int i = 0; i < repeat; ++i) seconds.push_back(seconds_of_a_sum(ranks, values));
  std::ranges::nth_element(seconds, seconds.begin() + repeat / 2);
  return seconds[static_cast<size_t>(repeat / 2)];
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int64_t> sizes = {1, 1000, 10000, 100000, 1000000, 5000000};
  int repeat = 41;
  qtf::benchmarks::Options app("Times sums over ranks; start it with mpirun");
  app.add("--numbers", sizes, "floats of a sum");
  app.add("--repeat", repeat, "sums a size; the median is told");
  app.parse(argc, argv);
  const auto ranks = qtf::cli::open_ranks();
  if (!ranks) {
    std::cerr << "sum_steps: start it with mpirun -np 2 or more\n";
    return 2;
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const int64_t size : sizes)
    rows.push_back(
        {{"numbers", size}, {"seconds", median_seconds(*ranks, static_cast<size_t>(size), repeat)}});
  if (ranks->leads()) std::cout << nlohmann::json{{"ranks", ranks->size()}, {"sums", rows}} << "\n";
  ranks->close();
}
