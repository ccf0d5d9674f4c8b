#include "overlay/dns/netd/kept_ports.h"

#include <fmt/format.h>

#include <utility>

namespace muster::overlay::dns {
namespace {

constexpr std::string_view kHanded = "port ";

std::vector<KeptPorts::Answer> say(std::string text) {
  std::vector<KeptPorts::Answer> out(1);
  out[0].text = std::move(text);
  return out;
}

std::vector<KeptPorts::Answer> refuse(std::string_view why) {
  return say(fmt::format("{}{}", kPortRefused, why));
}

}  // namespace

std::vector<KeptPorts::Answer> KeptPorts::command(PortMessage message) {
  std::string_view text = message.text;
  if (text == kPortList) return list();
  const bool keep = text.starts_with(kPortKeep);
  if (!keep && !text.starts_with(kPortDrop)) return refuse("a command of another version");
  text.remove_prefix(keep ? kPortKeep.size() : kPortDrop.size());
  const std::string name(text);
  if (!keep) {
    kept_.erase(name);
    return say(std::string(kPortDone));
  }
  if (name.empty() || name.size() > kPortNameMax || name.find('\n') != std::string::npos) {
    return refuse(fmt::format("\"{}\" is no name of a port", name));
  }
  if (message.sockets.size() != 1 || !message.sockets[0])
    return refuse("a name without its socket");
  if (kept_.size() >= kMost && !kept_.contains(name)) {
    return refuse(fmt::format("{} ports are as many as there may be", kMost));
  }
  kept_[name] = std::make_shared<const UniqueFd>(std::move(message.sockets[0]));
  return say(std::string(kPortDone));
}

std::vector<KeptPorts::Answer> KeptPorts::list() const {
  std::vector<Answer> out;
  for (const auto& [name, socket] : kept_) {
    if (out.empty() || out.back().sockets.size() == kPortSocketsMax) {
      out.push_back({std::string(kPortKept), {}});
    }
    out.back().text += name + "\n";
    out.back().sockets.push_back(socket);
  }
  out.push_back({std::string(kPortDone), {}});
  return out;
}

void KeptPorts::hand_over(std::vector<HandedRelay>& out) const {
  for (const auto& [name, socket] : kept_) {
    HandedRelay& handed = out.emplace_back();
    handed.text = std::string(kHanded) + name;
    handed.descriptors = {socket->get()};
  }
}

void KeptPorts::inherit(std::vector<HandedRelay>& handed) {
  std::erase_if(handed, [this](HandedRelay& one) {
    if (!one.text.starts_with(kHanded)) return false;
    if (one.owned.size() == 1) {
      kept_[one.text.substr(kHanded.size())] =
          std::make_shared<const UniqueFd>(std::move(one.owned[0]));
    }
    return true;
  });
}

}  // namespace muster::overlay::dns
