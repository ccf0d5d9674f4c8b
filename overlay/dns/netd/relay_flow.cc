#include "overlay/dns/netd/relay_flow.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>

namespace muster::overlay::dns {
namespace {

constexpr size_t kPieceMax = 1 << 16;  // a pipe's size, if nobody says otherwise
constexpr int kPiecesMax = 16;         // until others have their turn

}  // namespace

PipePool::Pipe PipePool::take() {
  if (!spare_.empty()) {
    Pipe pipe = std::move(spare_.back());
    spare_.pop_back();
    return pipe;
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return {};
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void PipePool::give_back(Pipe pipe) {
  if (pipe && spare_.size() < kSpareMax) spare_.push_back(std::move(pipe));
}

// True if something came.
bool RelayStream::fill(int from) {
  ssize_t got = 0;
  do {
    got = splice(from, nullptr, pipe_.in.get(), nullptr, kPieceMax,
                 SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    held_ += static_cast<size_t>(got);
    return true;
  }
  if (got == 0) {
    ended_ = true;
  } else if (errno != EAGAIN) {
    broken_ = true;
  }
  return false;
}

// True if something went.
bool RelayStream::drain(int to) {
  ssize_t sent = 0;
  do {
    sent = splice(pipe_.out.get(), nullptr, to, nullptr, held_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (sent < 0 && errno == EINTR);
  if (sent > 0) {
    held_ -= static_cast<size_t>(sent);
    return true;
  }
  if (sent == 0 || errno != EAGAIN) broken_ = true;
  return false;
}

RelayStream::Outcome RelayStream::pump(int from, int to, PipePool& pipes, bool* moved) {
  if (shut_) return Outcome::kDone;
  if (!pipe_) pipe_ = pipes.take();
  if (!pipe_) return Outcome::kBroken;
  bool more = true;
  // The pipe is emptied before it is filled: "not now" from a full one and from a socket without
  // data would be the same.
  for (int pieces = 0; more && pieces < kPiecesMax; ++pieces) {
    more = false;
    if (held_ == 0 && !ended_) more = fill(from);
    if (held_ != 0 && !broken_) more = drain(to);
    *moved = *moved || more;
    if (broken_) return Outcome::kBroken;
  }
  if (held_ == 0) pipes.give_back(std::exchange(pipe_, {}));
  if (more) return Outcome::kMore;
  if (held_ != 0 || !ended_) return Outcome::kWaits;
  shut_ = true;
  // Fails when the peer is gone altogether, which the other direction notices.
  (void)shutdown(to, SHUT_WR);
  return Outcome::kDone;
}

std::string RelayStream::state() const {
  return fmt::format("{}{}{}", held_, ended_ ? "e" : "", shut_ ? "s" : "");
}

RelayStream RelayStream::restored(std::string_view state, PipePool::Pipe pipe) {
  RelayStream out;
  (void)std::from_chars(state.data(), state.data() + state.size(), out.held_);
  out.ended_ = state.find('e') != std::string_view::npos;
  out.shut_ = state.find('s') != std::string_view::npos;
  if (out.held_ != 0) {
    out.pipe_ = std::move(pipe);
    out.broken_ = !out.pipe_;
  }
  return out;
}

}  // namespace muster::overlay::dns
