// qtf_edge_map: a file in memory, where the system has such.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "qtf/edge/message.h"

using qtf::edge::fail;

qtf_edge_status qtf_edge_map(const char* path, const void** file, size_t* bytes, qtf_edge_message* message) {
  if (message) message->text[0] = '\0';
  *file = nullptr, *bytes = 0;
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (descriptor < 0 || fstat(descriptor, &status) != 0) {
    const int reason = errno;
    if (descriptor >= 0) close(descriptor);
    return fail(message, QTF_EDGE_IO, "%s cannot be read: %s", path, std::strerror(reason));
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* mapped = size ? mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0) : MAP_FAILED;
  const int reason = errno;
  close(descriptor);
  if (mapped == MAP_FAILED)
    return fail(message, QTF_EDGE_IO, "%s cannot be mapped: %s", path,
                size ? std::strerror(reason) : "it is empty");
  *file = mapped, *bytes = size;
  return QTF_EDGE_OK;
}

void qtf_edge_unmap(const void* file, size_t bytes) {
  if (file) munmap(const_cast<void*>(file), bytes);
}
