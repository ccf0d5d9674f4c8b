#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace muster::agent {

// The talk of nodes that test the ways between them: what a node sends to the others, and what it
// has heard of them. Each sends to each, small frames and frames of full size, again and again
// until both know that both have arrived; a frame says which of the other's frames have. So a node
// learns of its own what arrives, and whether it still has to send. Pure.
//
// A node that is done goes on answering those that are not.
class Beacons {
 public:
  // What has been heard of a peer.
  struct Heard {
    bool small = false;
    bool full = false;
    size_t largest = 0;  // bytes of the largest frame's content
    bool hears = false;  // small frames of this node, as it has said

    friend bool operator==(const Heard&, const Heard&) = default;
  };
  struct Frame {
    std::string peer;
    std::string content;
  };

  static constexpr size_t kFullMin = 128;
  // After so many rounds without a frame of full size, other sizes are tried, to say which passes.
  static constexpr int kLadderAfter = 4;
  static constexpr int kLadderEvery = 4;

  // `full`: bytes of content of the largest frame that has to pass.
  Beacons(std::string examination_id, std::string self, const std::vector<std::string>& peers,
          size_t full);

  // What to send now; to be asked every now and then until finished().
  std::vector<Frame> round();
  // A frame has come, or whatever else; returns what to answer.
  std::vector<Frame> received(std::string_view content);
  // Everything has arrived, in both directions.
  bool finished() const { return unfinished_ == 0; }

  struct Peer {
    Heard heard;
    bool told_full = false;  // that it has heard large ones of us
    bool finished() const { return heard.small && heard.full && heard.hears && told_full; }
  };
  const std::map<std::string, Peer>& peers() const { return peers_; }
  size_t full() const { return full_; }

 private:
  enum Kind : uint8_t { kSmall = 0, kFull = 1, kLadder = 2 };

  std::string frame(const Peer& peer, Kind kind, bool answer, size_t size) const;
  std::vector<size_t> ladder() const;

  const std::string examination_id_;
  const std::string self_;
  const size_t full_;
  std::map<std::string, Peer> peers_;
  size_t unfinished_ = 0;
  int rounds_ = 0;
};

}  // namespace muster::agent
