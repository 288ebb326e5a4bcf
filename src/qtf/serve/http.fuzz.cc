#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qtf/serve/http.h"

// Each input is what a caller of this machine sends before it hangs up; the server must answer or close.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, size_t size) {
  using namespace qtf::serve;
  static HttpServer server({.port = 0, .body_bytes = 1 << 12, .header_bytes = 1 << 12},
                           [](const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
                             if (request.path == "/stream") {
                               reply->begin({.body = request.body});
                               reply->write(request.query);
                               reply->end();
                             } else {
                               reply->send({.body = request.path + request.body});
                             }
                           });
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server.port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    ::send(socket, data, size, MSG_NOSIGNAL);
    ::shutdown(socket, SHUT_WR);
    char bytes[4096];
    while (::recv(socket, bytes, sizeof(bytes), 0) > 0) {
    }
  }
  ::close(socket);
  return 0;
}
