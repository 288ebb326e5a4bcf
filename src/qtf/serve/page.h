// The page that the server shows: the files of page/, embedded when the program is built.
#pragma once

#include <span>
#include <string_view>

namespace qtf::serve {

struct PageFile {
  std::string_view name;
  std::string_view text;
};

/// Every file, index.html among them.
std::span<const PageFile> page_files();

}  // namespace qtf::serve
