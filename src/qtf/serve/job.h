// A request as the engine's job.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "qtf/serve/completion_request.h"
#include "qtf/serve/engine.h"

namespace qtf::serve {

/// One scheduler for all requests that ask for the same of one model, so that they share passes and prefixes.
class Schedulers {
 public:
  /// Null: the request asks for none. Throws RequestError for a policy that the model has not.
  std::shared_ptr<const model::RankScheduler> find(const CompletionRequest& request,
                                                   const model::ModelConfig& config);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const model::RankScheduler>> schedulers_;
};

/// The job of one of the request's texts, without a scope or a listener. Throws RequestError for what the
/// model cannot do.
Job make_job(const CompletionRequest& request, Endpoint endpoint, const Engine& engine,
             Schedulers& schedulers);

}  // namespace qtf::serve
