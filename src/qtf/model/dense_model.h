// A model whose tensor trains are multiplied out, for programs that know dense weights only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "qtf/model/transformer.h"

namespace qtf::model {

/// The same function with dense weights, and what is lost on the way, a sentence each (empty for a model that
/// was dense).
struct DenseModel {
  std::unique_ptr<Transformer<float>> model;
  std::vector<std::string> dropped;
};

/// `level` as in Transformer's calls: 0 is the largest.
DenseModel make_dense(const Transformer<float>& model, int level = 0);

}  // namespace qtf::model
