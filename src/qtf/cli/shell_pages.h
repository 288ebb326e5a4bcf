// What a shell's user is helped by, made from the command table: the man page and the completion.
#pragma once

#include <string>

namespace qtf::cli {

/// qtf.1, whole, in roff with man's macros; UTF-8.
std::string man_page();

/// A script for bash that completes commands, options and the values of those with choices, else files.
std::string bash_completion();

}  // namespace qtf::cli
