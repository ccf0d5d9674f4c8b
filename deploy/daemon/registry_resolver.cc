#include "deploy/daemon/registry_resolver.h"

#include <utility>

namespace muster::daemon {
namespace {

constexpr size_t kQuestionsAtATime = 4;
constexpr Duration kLimit = 10s;  // below the control API's patience, so that the reason arrives

using manager::control::ResolvedImage;

Result<ResolvedImage> look_up(agent::ImageStore& images, const agent::PullRequest& request) {
  MUSTER_ASSIGN(agent::RemoteImage remote, images.inspect_remote(request, kLimit));
  return ResolvedImage{std::move(remote.digest), std::move(remote.platforms)};
}

}  // namespace

RegistryResolver::RegistryResolver(Executor& strand, agent::ImageStore& images)
    : strand_(strand), images_(images), pool_("registry", kQuestionsAtATime) {}

RegistryResolver::~RegistryResolver() {
  *stopped_ = true;
}

void RegistryResolver::resolve(const std::string& image, const std::string& registry_auth,
                               Done done) {
  agent::PullRequest request;
  request.reference = image;
  request.registry_auth = registry_auth;
  request.cancelled = stopped_;
  // Shared, since what the pool refuses is gone.
  auto shared = std::make_shared<Done>(std::move(done));
  const bool queued = pool_.post([this, shared, request = std::move(request)] {
    strand_.post(
        [shared, answer = look_up(images_, request)]() mutable { (*shared)(std::move(answer)); });
  });
  if (queued) return;
  strand_.post([shared] {
    (*shared)(fail(resource_exhausted("too many questions to registries wait on this node")));
  });
}

}  // namespace muster::daemon
