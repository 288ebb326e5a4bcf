// What went wrong, without exceptions or memory of its own.
#pragma once

#include <cstdarg>
#include <cstdio>

#include "qtf/edge/qtf_edge.h"

namespace qtf::edge {

/// Writes a message as printf does, and gives the status back.
[[gnu::format(printf, 3, 4)]] inline qtf_edge_status fail(qtf_edge_message* message, qtf_edge_status status,
                                                          const char* format, ...) {
  if (!message) return status;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message->text, sizeof message->text, format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace qtf::edge
