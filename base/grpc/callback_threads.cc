#include "base/grpc/callback_threads.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <memory>

namespace muster {
namespace {

// One more user of the threads, which is never destroyed: a channel that cannot be used for
// anything, and so makes no attempts and has no timers, with a call of its own, which has failed.
struct Keeper {
  std::shared_ptr<grpc::Channel> channel = grpc::CreateChannel("", nullptr);
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1};
  grpc::ByteBuffer response;

  Keeper() {
    grpc::GenericStub(channel).UnaryCall(&context, "/none", grpc::StubOptions(), &request,
                                         &response, [](const grpc::Status&) {});
  }
};

}  // namespace

void keep_callback_threads() {
  [[maybe_unused]] static const Keeper* const keeper = new Keeper;
}

}  // namespace muster
