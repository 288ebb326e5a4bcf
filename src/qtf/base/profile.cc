#include "qtf/base/profile.h"

#include <algorithm>
#include <cstring>

#include "qtf/base/error.h"

namespace qtf {

int ProfileTree::child(const char* name) {
  for (size_t i = static_cast<size_t>(current_) + 1; i < nodes_.size(); ++i)
    if (nodes_[i].name == name && nodes_[i].parent == current_) return static_cast<int>(i);
  Node& added = nodes_.emplace_back();
  added.name = name, added.parent = current_;
  return static_cast<int>(nodes_.size()) - 1;
}

void ProfileTree::pass_time() {
  const Clock::time_point now = Clock::now();
  nodes_[static_cast<size_t>(current_)].time += now - since_;
  since_ = now;
}

void ProfileTree::enter(const char* name, double flops) {
  pass_time();
  current_ = child(name);
  Node& node = nodes_[static_cast<size_t>(current_)];
  ++node.calls;
  node.flops += flops;
}

void ProfileTree::leave() {
  pass_time();
  current_ = nodes_[static_cast<size_t>(current_)].parent;
}

void ProfileTree::start(const std::vector<const char*>& path) {
  current_ = 0;
  for (const char* name : path) current_ = child(name);
  since_ = Clock::now();
}

void ProfileTree::stop() {
  pass_time();
  current_ = 0;
}

std::vector<const char*> ProfileTree::path() const {
  std::vector<const char*> names;
  for (int i = current_; i > 0; i = nodes_[static_cast<size_t>(i)].parent)
    names.push_back(nodes_[static_cast<size_t>(i)].name);
  std::reverse(names.begin(), names.end());
  return names;
}

Profile::Profile(ThreadPool& pool)
    : pool_(pool), trees_(static_cast<size_t>(pool.size())), begin_(ProfileTree::Clock::now()) {
  QTF_ASSERT(pool.profile_ == nullptr && internal::profile_tree == nullptr);
  pool.profile_ = this;
  internal::profile_tree = trees_.data();
  trees_[0].start({});
}

Profile::~Profile() {
  internal::profile_tree = nullptr;
  pool_.profile_ = nullptr;
}

void Profile::before_job() {
  path_ = trees_[0].path();
}

void Profile::start(int worker) {
  ProfileTree& tree = trees_[static_cast<size_t>(worker)];
  internal::profile_tree = &tree;
  tree.start(path_);
}

void Profile::stop(int worker) {
  trees_[static_cast<size_t>(worker)].stop();
  internal::profile_tree = nullptr;
}

namespace {

using Duration = ProfileTree::Clock::duration;

double seconds(Duration time) {
  return std::chrono::duration<double>(time).count();
}

/// The sum of the workers' trees.
struct Part {
  const char* name = "";
  int64_t calls = 0;
  double seconds = 0, flops = 0;
  std::vector<Part> parts;

  Part& part(const char* called) {
    for (Part& p : parts)
      if (std::strcmp(p.name, called) == 0) return p;
    Part& added = parts.emplace_back();
    added.name = called;
    return added;
  }

  /// Adds what lies inside to this; gives the time of waiting, which is taken out.
  double total_up() {
    double waiting = 0;
    std::erase_if(parts, [&](const Part& p) {
      const bool waits = std::strcmp(p.name, kProfileWaiting) == 0;
      if (waits) waiting += p.seconds;
      return waits;
    });
    for (Part& p : parts) {
      waiting += p.total_up();
      seconds += p.seconds, flops += p.flops;
    }
    std::stable_sort(parts.begin(), parts.end(),
                     [](const Part& a, const Part& b) { return a.seconds > b.seconds; });
    return waiting;
  }

  void list(const std::string& path, int depth, std::vector<ProfileRow>& rows) const {
    for (const Part& p : parts) {
      const std::string its = path + p.name;
      rows.push_back({its, depth, p.calls, p.seconds, p.flops});
      p.list(its + "/", depth + 1, rows);
    }
  }
};

void add_tree(const ProfileTree& tree, Part& whole) {
  const auto& nodes = tree.nodes();
  whole.seconds += seconds(nodes[0].time);
  for (size_t i = 1; i < nodes.size(); ++i) {
    std::vector<const char*> path;
    for (int at = static_cast<int>(i); at > 0; at = nodes[static_cast<size_t>(at)].parent)
      path.push_back(nodes[static_cast<size_t>(at)].name);
    Part* part = &whole;
    for (size_t k = path.size(); k-- > 0;) part = &part->part(path[k]);
    part->calls += nodes[i].calls, part->seconds += seconds(nodes[i].time), part->flops += nodes[i].flops;
  }
}

}  // namespace

ProfileReport Profile::report() const {
  ProfileReport report{
      .wall_seconds = seconds(ProfileTree::Clock::now() - begin_), .threads = pool_.size(), .rows = {}};
  Part whole;
  for (const ProfileTree& tree : trees_) add_tree(tree, whole);
  const double other = whole.seconds + seconds(trees_[0].running());
  whole.total_up();
  whole.list("", 0, report.rows);
  double named = other;
  for (const ProfileRow& row : report.rows)
    if (row.depth == 0) named += row.seconds;
  report.rows.push_back({"other", 0, 0, other, 0});
  report.rows.push_back(
      {kProfileWaiting, 0, 0, std::max(0.0, report.wall_seconds * report.threads - named), 0});
  return report;
}

}  // namespace qtf
