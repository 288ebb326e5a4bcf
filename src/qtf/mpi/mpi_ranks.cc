// Ranks that are processes started by mpirun. A module of its own: `qtf` loads it only there
// (cli/training_ranks).
#include <mpi.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "qtf/train/ranks.h"

namespace qtf::mpi {

namespace {

using Clock = std::chrono::steady_clock;

/// How long a meeting goes on once this rank is told to stop: the others may be told so too, and be on their
/// way. mpirun kills a second after it has told.
constexpr auto kPatience = std::chrono::milliseconds(150);

std::string text_of(int error) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(error, text, &length);
  return {text, static_cast<size_t>(length)};
}

void check(int error) {
  if (error != MPI_SUCCESS) throw train::RanksLost(text_of(error));
}

class MpiRanks final : public train::Ranks {
 public:
  MpiRanks() {
    // A rank that waits leaves its core to whoever has work.
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
    if (provided < MPI_THREAD_SERIALIZED)
      throw std::runtime_error("this MPI lets only one thread call it; qtf needs MPI_THREAD_SERIALIZED");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void sum(std::span<float> values) override { sum_as(MPI_FLOAT, values); }
  void sum(std::span<double> values) override { sum_as(MPI_DOUBLE, values); }

  void share(std::span<std::byte> bytes) override {
    in_parts(bytes, [&](std::byte* begin, int count) {
      MPI_Request request;
      check(MPI_Ibcast(begin, count, MPI_BYTE, 0, MPI_COMM_WORLD, &request));
      return request;
    });
  }

  void close() override {
    MPI_Request request;
    check(MPI_Ibarrier(MPI_COMM_WORLD, &request));
    wait(request);
    MPI_Finalize();
  }

 private:
  template <class T>
  void sum_as(MPI_Datatype type, std::span<T> values) {
    in_parts(values, [&](T* begin, int count) {
      MPI_Request request;
      check(MPI_Iallreduce(MPI_IN_PLACE, begin, count, type, MPI_SUM, MPI_COMM_WORLD, &request));
      return request;
    });
  }

  /// MPI counts in int.
  template <class T, class Begin>
  void in_parts(std::span<T> values, const Begin& begin) {
    constexpr size_t kMost = size_t{1} << 30;
    for (size_t first = 0; first < values.size(); first += kMost) {
      wait(begin(values.data() + first, static_cast<int>(std::min(kMost, values.size() - first))));
    }
  }

  void wait(MPI_Request request) {
    constexpr int kPolls = 2000;  // before it sleeps between polls
    Clock::time_point told{};
    for (int polls = 0;; ++polls) {
      int done = 0;
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
      if (done) return;
      if (polls > kPolls)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      else
        std::this_thread::yield();
      if (!told_to_stop()) continue;
      if (told == Clock::time_point{}) told = Clock::now();
      if (Clock::now() - told > kPatience) throw train::RanksLost("the other ranks do not answer");
    }
  }

  int rank_ = 0, size_ = 1;
};

}  // namespace

}  // namespace qtf::mpi

/// For cli/training_ranks.cc, which owns what this returns.
extern "C" qtf::train::Ranks* qtf_open_ranks();
extern "C" qtf::train::Ranks* qtf_open_ranks() {
  return new qtf::mpi::MpiRanks;
}
