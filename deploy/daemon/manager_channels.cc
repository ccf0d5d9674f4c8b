#include "deploy/daemon/manager_channels.h"

#include <chrono>
#include <utility>

namespace muster::daemon {
namespace {

constexpr size_t kCheckThreads = 8;
constexpr auto kCheckLimit = std::chrono::milliseconds(1200);
constexpr auto kSelfLimit = std::chrono::seconds(1);

Status connect_once(const std::shared_ptr<security::TlsIdentity>& identity,
                    const std::string& address) {
  if (identity == nullptr) return unavailable("this node is in no swarm");
  security::ManagerChannel channel(identity, address);
  const auto connection = channel.get();
  if (connection->WaitForConnected(std::chrono::system_clock::now() + kCheckLimit)) {
    return ok_status();
  }
  return unavailable("no manager of this swarm answers at {}", address);
}

}  // namespace

bool answers_as_self(const std::shared_ptr<security::TlsIdentity>& identity,
                     const std::string& address) {
  security::ManagerChannel channel(identity, address, identity->current()->facts.identity.node_id);
  const auto connection = channel.get();
  const auto limit = std::chrono::system_clock::now() + kSelfLimit;
  grpc_connectivity_state state = connection->GetState(true);
  while (state != GRPC_CHANNEL_READY) {
    // The first attempt tells: whoever is refused, or meets somebody else, is so the next time.
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) return false;
    if (!connection->WaitForStateChange(state, limit)) return false;
    state = connection->GetState(true);
  }
  return true;
}

std::shared_ptr<grpc::Channel> ManagerChannels::to(const std::string& address) {
  const auto identity = identity_();
  std::lock_guard lock(mutex_);
  if (identity != known_) {
    channels_.clear();
    known_ = identity;
  }
  if (identity == nullptr) return nullptr;
  auto& channel = channels_[address];
  if (channel == nullptr) {
    grpc::ChannelArguments arguments = security::manager_channel_arguments();
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    channel = std::make_unique<security::ManagerChannel>(identity, address, std::string(),
                                                         std::move(arguments));
  }
  return channel->get();
}

ManagerReachability::ManagerReachability(
    Executor& strand, std::function<std::shared_ptr<security::TlsIdentity>()> identity)
    : strand_(strand), identity_(std::move(identity)), pool_("reach", kCheckThreads) {}

void ManagerReachability::check(const std::string& address, UniqueFunction<void(Status)> done) {
  auto shared = std::make_shared<UniqueFunction<void(Status)>>(std::move(done));
  const auto tell = [this, shared](Status status) {
    strand_.post([shared, status = std::move(status)]() mutable { (*shared)(std::move(status)); });
  };
  const bool queued = pool_.post(
      [identity = identity_(), address, tell] { tell(connect_once(identity, address)); });
  if (!queued) tell(resource_exhausted("too many checks of managers are under way"));
}

}  // namespace muster::daemon
