#include "qtf/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

namespace qtf {

namespace {

using std::chrono::steady_clock;

constexpr int kDefaultWidth = 80;
constexpr int kMaxBar = 40;
constexpr int kMinBar = 5;
thread_local constinit const ProgressListener::Listen* listening = nullptr;

constexpr const char* kClearLine = "\r\033[K";

bool is_terminal(std::FILE* out) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(out)) && !(term && std::string_view(term) == "dumb");
}

int terminal_width(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return kDefaultWidth;
}

bool starts_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

int characters(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), starts_character));
}

/// The first `count` characters of UTF-8 text.
std::string_view first_characters(std::string_view text, int count) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (starts_character(text[end]) && count-- == 0) break;
  }
  return text.substr(0, end);
}

/// `width` columns, filled to `share` in steps of an eighth.
std::string bar(double share, int width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(share * width * 8);
  std::string text;
  for (int i = 0; i < eighths / 8; ++i) text += "█";
  text += kEighths[eighths % 8];
  return text + std::string(static_cast<size_t>(width - characters(text)), ' ');
}

double seconds_between(steady_clock::time_point from, steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

ProgressListener::ProgressListener(Listen listen) : listen_(std::move(listen)) {
  listening = &listen_;
}

ProgressListener::~ProgressListener() {
  listening = nullptr;
}

void tell_progress(const std::string& label, const std::string& status) {
  if (listening) return (*listening)({label, 0, 0, status});
  fmt::print(stderr, "{}: {}\n", label, status);
}

Progress::Progress(std::string label, int64_t total, std::FILE* out)
    : label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)),
      out_(out),
      terminal_(is_terminal(out)),
      begin_(steady_clock::now()),
      drawn_(begin_) {}

Progress::~Progress() {
  try {
    finish();
  } catch (...) {  // a listener's; update() is where it can stop the work
  }
}

void Progress::start_at(int64_t done) {
  start_ = done_ = done;
}

void Progress::update(int64_t done, const std::string& status) {
  done_ = done;
  status_ = status;
  const double interval = terminal_ || listening ? 0.1 : 5;
  const auto now = steady_clock::now();
  const bool first = (terminal_ || listening) && drawn_ == begin_;
  if (!first && seconds_between(drawn_, now) < interval) return;
  drawn_ = now;
  draw();
}

void Progress::line(const std::string& text) {
  if (listening) return (*listening)({label_, done_, total_, text});
  if (terminal_) std::fputs(kClearLine, out_);
  fmt::print(out_, "{}\n", text);
  if (terminal_ && !finished_) draw();
  std::fflush(out_);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  draw();
  if (listening) return;
  if (terminal_) std::fputc('\n', out_);
  std::fflush(out_);
}

std::string Progress::time_text() const {
  const double elapsed = seconds_between(begin_, steady_clock::now());
  if (finished_ || done_ >= total_) return "in " + format_duration(elapsed);
  if (done_ <= start_) return {};
  const double rate = static_cast<double>(done_ - start_) / elapsed;
  return "ETA " + format_duration(static_cast<double>(total_ - done_) / rate);
}

void Progress::draw() {
  if (listening) return (*listening)({label_, done_, total_, status_});
  const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
  const std::string head = fmt::format("{} {:3d}%", label_, static_cast<int>(share * 100));
  std::string tail = status_;
  if (const std::string time = time_text(); !time.empty()) tail += (tail.empty() ? "" : "  ") + time;
  if (!terminal_) {
    fmt::print(out_, "{}{}{}\n", head, tail.empty() ? "" : "  ", tail);
  } else {
    // The last column stays free: a character there makes some terminals wrap.
    const int width = terminal_width(out_) - 1;
    const int room = width - characters(head) - characters(tail) - 4;
    std::string text = head;
    if (room >= kMinBar) text += fmt::format(" |{}|", bar(share, std::min(room, kMaxBar)));
    text += " " + tail;
    fmt::print(out_, "{}{}", kClearLine, first_characters(text, width));
  }
  std::fflush(out_);
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto total = std::llround(seconds);
  if (total < 3600) return fmt::format("{}:{:02d}", total / 60, total % 60);
  return fmt::format("{}:{:02d}:{:02d}", total / 3600, total / 60 % 60, total % 60);
}

}  // namespace qtf
