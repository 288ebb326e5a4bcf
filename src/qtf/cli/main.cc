// The program `qtf`: everything lies in run_cli.
#include <iostream>

#include "qtf/cli/cli.h"

int main(int argc, char** argv) {
  return qtf::cli::run_cli({argv + 1, argv + argc}, {std::cin, std::cout, std::cerr});
}
