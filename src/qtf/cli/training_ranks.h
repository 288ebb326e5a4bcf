// The ranks that mpirun starts `qtf train` with. MPI is a module of its own, loaded only there, so that the
// plain program starts without it.
#pragma once

#include <memory>

#include "qtf/train/ranks.h"

namespace qtf::cli {

/// This process's place among the ranks it was started with; null where it runs alone. Throws InputError
/// where several were started and the module that speaks MPI is not installed.
std::unique_ptr<train::Ranks> open_ranks();

/// Threads of a rank that may run on `allowed` of the machine's `cores`, beside `ranks_here` in all on this
/// machine: its own cores where it was bound to some, else a share of all. At least 1.
int threads_of_a_rank(int allowed, int cores, int ranks_here);

/// The same of this process.
int threads_of_this_rank();

/// Waits before a rank above 0 tells an error. mpirun ends all ranks when one has left: if rank 0 has
/// met the same error, this one is ended here, and the error is told once.
void let_rank_0_speak();

}  // namespace qtf::cli
