// What the server answers: one table of routes, from which dispatch, docs/api.md and the tests are made.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/serve/engine.h"
#include "qtf/serve/http.h"

namespace qtf::serve {

struct ApiOptions {
  std::string model_name = {};         ///< as /v1/models tells it
  std::string parent_name = {};        ///< of the model that it was made of, served beside it; empty: none is
  std::filesystem::path report = {};   ///< a page on how the model was compressed; may be missing
  std::filesystem::path records = {};  ///< of how it was made, an audit file; may be missing
  /// SHA-256, in hex, of the keys that callers may show; none: no key is asked for.
  std::vector<std::string> key_hashes = {};
  /// Host names under which the server may be called; none: any (keys keep strangers out).
  std::vector<std::string> hosts = {};
  double requests_per_second = 50;  ///< a key, or all callers without one; as many may come at once
  int64_t most_watchers = 16;       ///< of /v1/trace
  bool explains_by_k2 = false;      ///< /v1/why may ask the service that the environment names
};

/// One path and method.
struct Route {
  std::string_view method;
  std::string_view path;
  std::string_view summary;
  bool needs_key = true;  ///< where the server has any
};

std::span<const Route> routes();

/// docs/api.md.
std::string markdown_api();

class ApiService;

class Api {
 public:
  /// An engine must end before the HttpServer that the replies are of: close() first.
  /// parent: null where there is none.
  Api(std::shared_ptr<Engine> engine, ApiOptions options, std::shared_ptr<Engine> parent = nullptr);
  ~Api();

  /// Another engine for requests from now on. Returns the one before, which still works on its jobs.
  std::shared_ptr<Engine> replace(std::shared_ptr<Engine> engine);

  /// Refuses requests from now on; texts begun have so many seconds, questions to a service none.
  void close(double seconds);

  /// Answers at once or, for texts, as they are written. May be called on many threads.
  void handle(const HttpRequest& request, const std::shared_ptr<Reply>& reply);

 private:
  std::unique_ptr<ApiService> service_;
};

}  // namespace qtf::serve
